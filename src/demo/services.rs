//! The services of the demo, as a person would write them into a services file.

use std::fmt;
use std::net::SocketAddr;

use crate::inventory::Inventory;
use crate::services_file::{self, FileError};

/// What the services file says at one moment.
#[derive(Clone, Debug)]
pub(super) struct Services {
    /// Where the replicas of `shop` are.
    pub(super) shop: Vec<SocketAddr>,
    /// Where the one of `hello` is.
    pub(super) hello: SocketAddr,
    /// The host of the route `api`, if it has one of its own.
    pub(super) api_host: Option<&'static str>,
}

impl Services {
    /// The same as the edge takes it.
    pub(super) fn inventory(&self) -> Result<Inventory, FileError> {
        let (services, _) = services_file::read(&self.to_string(), "services.toml")?;
        Ok(Inventory { services })
    }
}

/// The text of the file.
impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.shop.iter().map(|at| format!("\"{at}\"")).collect();
        writeln!(f, "[services.shop]")?;
        writeln!(f, "endpoints = [{}]", quoted.join(", "))?;
        writeln!(f, "hiveway.host = \"shop.localhost\"")?;
        if let Some(host) = self.api_host {
            writeln!(f, "hiveway.routes.api.host = \"{host}\"")?;
        }
        writeln!(f, "hiveway.routes.api.path = \"/api\"")?;
        writeln!(f, "hiveway.routes.api.strip-prefix = true")?;
        writeln!(f)?;
        writeln!(f, "[services.hello]")?;
        writeln!(f, "endpoints = [\"{}\"]", self.hello)?;
        writeln!(f, "hiveway.host = \"grpc.localhost\"")?;
        writeln!(f, "hiveway.protocol = \"grpc\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels;

    #[test]
    fn the_services_are_free_of_complaints() {
        for api_host in [None, Some("api.localhost")] {
            let at = SocketAddr::from(([127, 0, 0, 1], 8081));
            let text = Services { shop: vec![at], hello: at, api_host }.to_string();
            let (services, diagnostics) = services_file::read(&text, "services.toml").unwrap();
            assert_eq!(diagnostics, []);
            for service in services {
                assert_eq!(labels::parse(&service.name, &service.labels).diagnostics, []);
            }
        }
    }
}
