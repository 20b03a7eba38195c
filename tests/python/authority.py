"""Certificates for a test, issued by an authority that only the test trusts."""

import base64
import datetime
import hashlib
import os
import pathlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
DAY = datetime.timedelta(days=1)


class Authority:
    def __init__(self, directory):
        """The edge reads `served`; what the clients need is beside it."""
        self.served = pathlib.Path(directory) / "served"
        self.served.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        use = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        own = (self._builder(self.name, self.key)
               .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
               .add_extension(use, critical=True)
               .sign(self.key, hashes.SHA256()))
        self.root = pathlib.Path(directory) / "root.pem"
        self.root.write_bytes(own.public_bytes(PEM))

    def _builder(self, subject, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (x509.CertificateBuilder()
                .subject_name(subject).issuer_name(self.name).public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                .add_extension(issuer, False))

    def made(self, name, subject=()):
        """A certificate for a name, and PEM with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(kind, text) for kind, text in subject]
        certificate = (self._builder(x509.Name(parts), key)
                       .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), not parts)
                       .sign(self.key, hashes.SHA256()))
        private = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate, certificate.public_bytes(PEM) + private

    def person(self, name):
        """A file beside those that are served, with the certificate of a client and its key."""
        file = self.root.parent / f"{name}.pem"
        file.write_bytes(self.made(f"{name}.test", [(x509.NameOID.COMMON_NAME, name)])[1])
        return file

    def issue(self, file, name, at_once=True):
        """Puts a certificate for a name and its key into a file; as a rename, or by writing over it."""
        certificate, text = self.made(name)
        if at_once:
            new = self.served.parent / "new.pem"
            new.write_bytes(text)
            os.replace(new, self.served / file)
        else:
            (self.served / file).write_bytes(text)
        return Certificate(certificate)

    def context(self, *protocols, person=None):
        """What a client verifies by, and the file of its own certificate if it has one."""
        context = ssl.create_default_context(cafile=self.root)
        if person:
            context.load_cert_chain(person)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


class Certificate:
    def __init__(self, certificate):
        self.der = certificate.public_bytes(DER)
        public = certificate.public_key().public_bytes(
            DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.public_key_hash = base64.b64encode(hashlib.sha256(public).digest()).decode()
