"""Makes the seeds of the fuzz targets `crl` and `client_certificate`, whose names begin with made-.

python3 tests/vectors/fuzz_certificates.py

Needs the package `cryptography`, version 38: version 48 signs no certificate with SHA-1. Each run
makes new keys.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from cryptography.x509.oid import NameOID

CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus"
START, END = datetime(2026, 1, 1), datetime(2036, 1, 1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write(target, file, octets):
    (CORPUS / target).mkdir(exist_ok=True)
    (CORPUS / target / f"made-{file}").write_bytes(octets)


def issue(subject, key, issuer, issuer_key, digest=None, until=END, **extensions):
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), 7)
    builder = builder.not_valid_before(START).not_valid_after(until)
    for extension in extensions.values():
        builder = builder.add_extension(extension, False)
    return builder.sign(issuer_key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def chain(file, *certificates):
    write("client_certificate", file, b"".join(len(c).to_bytes(2, "big") + c for c in certificates))


ca, client = x509.BasicConstraints(True, None), x509.ExtendedKeyUsage([Use.CLIENT_AUTH])
root_key, middle_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
leaf_key, other_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())
root = issue("root", root_key, "root", root_key, ca=ca)
middle = issue("middle", middle_key, "root", root_key, ca=ca)
leaf = issue("client", leaf_key, "middle", middle_key, use=client)
chain("proven", leaf, middle, root)
chain("direct", issue("client", other_key, "root", root_key, use=client), root)
chain("no-middle", leaf, root)
chain("no-use", issue("client", leaf_key, "root", root_key), root)
server = x509.ExtendedKeyUsage([Use.SERVER_AUTH])
chain("server", issue("server", leaf_key, "root", root_key, use=server), root)
chain("expired", issue("client", leaf_key, "root", root_key, until=START, use=client), root)
weak = rsa.generate_private_key(65537, 1024)
chain("short-key", issue("client", weak, "root", root_key, use=client), root)
old = rsa.generate_private_key(65537, 2048)
old_root = issue("old", old, "old", old, ca=ca)
chain("sha1", issue("client", leaf_key, "old", old, hashes.SHA1(), use=client), old_root)
chain("not-the-key", issue("client", leaf_key, "root", middle_key, use=client), root)
chain("self-signed", issue("client", leaf_key, "client", leaf_key, use=client))
names = x509.SubjectAlternativeName([x509.DNSName("pc-1.example"), x509.DNSName("two\nlines")])
chain("names", issue("cli\nent", leaf_key, "root", root_key, use=client, names=names), root)
chain("root-alone", root)


def crl(file, entries=(), number=1, **extensions):
    builder = x509.CertificateRevocationListBuilder(name("root"), START, END)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), False)
    for extension in extensions.values():
        builder = builder.add_extension(extension, True)
    for serial in entries:
        entry = x509.RevokedCertificateBuilder(serial, START).build()
        builder = builder.add_revoked_certificate(entry)
    write("crl", file, builder.sign(root_key, hashes.SHA256()).public_bytes(Encoding.DER))


def scope(**changes):
    usual = dict(
        full_name=[x509.UniformResourceIdentifier("http://pki.example/a.crl")],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    return x509.IssuingDistributionPoint(**{**usual, **changes})


crl("empty")
crl("one", [7])
crl("many", range(1, 100))
crl("no-number", [7], None)
crl("large-number", [7], (1 << 152) + 1)
crl("too-large-number", [7], 1 << 160)
crl("delta", [7], delta=x509.DeltaCRLIndicator(1))
crl("scope", [7], scope=scope())
crl("users-alone", [7], scope=scope(only_contains_user_certs=True))
crl("indirect", [7], scope=scope(indirect_crl=True))
crl("some-reasons", [7], scope=scope(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])))
key = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
crl("key", [7], key=key)
