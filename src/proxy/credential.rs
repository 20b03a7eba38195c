//! Who a client is by its certificate: which requests of its connection may use a route that asks for
//! one, and what replicas are told.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy::error::ProxyError;
use crate::spec::{ClientAuth, Policy};

/// Envoy's field, which others read as well.
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What a connection's handshake has brought about its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// There was none: the connection is in clear text.
    #[default]
    Clear,
    /// The client was not asked: no route of the name that it gave wanted a certificate.
    NotAsked,
    /// It was asked, and has shown none.
    Withheld,
    /// It has shown one that was verified; this is said about it.
    Shown(HeaderValue),
}

impl Credential {
    /// Whether a request may use a route.
    ///
    /// # Errors
    /// `Misdirected` if the client was not asked: on another connection it may be, and let in (RFC
    /// 9110, section 15.5.20). `NoCertificate` if it was.
    pub fn admits(&self, wanted: ClientAuth) -> Result<(), ProxyError> {
        match (wanted, self) {
            (ClientAuth::Off, _)
            | (_, Self::Shown(_))
            | (ClientAuth::Optional, Self::Clear | Self::Withheld) => Ok(()),
            (ClientAuth::Required, Self::Withheld) => Err(ProxyError::NoCertificate),
            (ClientAuth::Required, Self::Clear | Self::NotAsked)
            | (ClientAuth::Optional, Self::NotAsked) => Err(ProxyError::Misdirected),
        }
    }

    /// Tells a replica who its client is, if its route asks. A trusted proxy may have told already.
    pub fn tell(&self, policy: &Policy, fields: &mut HeaderMap) {
        if let Self::Shown(identity) = self
            && policy.client_auth != ClientAuth::Off
        {
            fields.entry(X_FORWARDED_CLIENT_CERT).or_insert_with(|| identity.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_asked_is_sent_to_another_connection_and_who_has_none_is_refused() {
        use ClientAuth::{Off, Optional, Required};
        let shown = Credential::Shown(HeaderValue::from_static("x"));
        let (misdirected, none) = (Err(ProxyError::Misdirected), Err(ProxyError::NoCertificate));
        for (credential, expected) in [
            (Credential::Clear, [Ok(()), Ok(()), misdirected]),
            (Credential::NotAsked, [Ok(()), misdirected, misdirected]),
            (Credential::Withheld, [Ok(()), Ok(()), none]),
            (shown, [Ok(()); 3]),
        ] {
            let admitted = [Off, Optional, Required].map(|wanted| credential.admits(wanted));
            assert_eq!(admitted, expected, "{credential:?}");
        }
    }
}
