"""Makes ccm_signatures.json: signatures as CCM clients make them, and such as nobody should take.

python3 tests/vectors/ccm_signatures.py > tests/vectors/ccm_signatures.json

Needs the package `cryptography`. Usual signatures are its own; others are the bare RSA operation
on a block that is put together here. Each run makes new keys.
"""

import hashlib
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TEXT = "2026-11-21T18:00:00Z"
OID = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
KEYS = {
    "rsa2048": rsa.generate_private_key(65537, 2048),
    "other2048": rsa.generate_private_key(65537, 2048),
    "rsa3072": rsa.generate_private_key(65537, 3072),
    "rsa4096": rsa.generate_private_key(65537, 4096),
    "exponent3": rsa.generate_private_key(3, 2048),
    "rsa1024": rsa.generate_private_key(65537, 1024),
}
cases = []


def wide(text):
    return text.encode("utf-16-le") + b"\0\0"


def usual(key, octets, algorithm=None):
    return KEYS[key].sign(octets, padding.PKCS1v15(), algorithm or hashes.SHA256())


def raw(key, block):
    numbers = KEYS[key].private_numbers()
    n = numbers.public_numbers.n
    return pow(int.from_bytes(block, "big"), numbers.d, n).to_bytes((n.bit_length() + 7) // 8, "big")


def block(key, tail, ones=None, first=b"\0\1", end=b"\0"):
    size = (KEYS[key].key_size + 7) // 8
    ones = size - len(tail) - 3 if ones is None else ones
    head = first + b"\xff" * ones + end + tail
    return head + b"\xaa" * (size - len(head))


def case(name, signature, holds=False, key="rsa2048", text=TEXT, sha1=False):
    signature = signature[::-1].hex() if isinstance(signature, bytes) else signature
    entry = {"name": name, "key": key, "text": text, "signature": signature}
    cases.append({**entry, "sha1": sha1, "holds": holds})


def digest(name, octets):
    return hashlib.new(name, octets).digest()


good = usual("rsa2048", wide(TEXT))
bare = digest("sha256", wide(TEXT))
info = OID["sha256"] + bare
for key in ("rsa2048", "rsa3072", "rsa4096", "exponent3"):
    case(f"usual, {key}", usual(key, wide(TEXT)), True, key)
    case(f"without OID, {key}", raw(key, block(key, bare)), True, key)
case("upper case", good[::-1].hex().upper(), True)
case("mixed case", good[::-1].hex()[:100] + good[::-1].hex()[100:].upper(), True)
for text in ("", "GUID:0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9;2026-11-21T18:00:00Z;2", "Köln 😀"):
    case(f"text {text!r}", usual("rsa2048", wide(text)), True, text=text)
old = usual("rsa2048", wide(TEXT), hashes.SHA1())
old_bare = raw("rsa2048", block("rsa2048", digest("sha1", wide(TEXT))))
case("SHA-1, asked for", old, True, sha1=True)
case("SHA-1 without OID, asked for", old_bare, True, sha1=True)
case("SHA-256 where SHA-1 is asked for", good, True, sha1=True)

case("SHA-1", old)
case("SHA-1 without OID", old_bare)
case("SHA-512", usual("rsa2048", wide(TEXT), hashes.SHA512()))
case("MD5 without OID", raw("rsa2048", block("rsa2048", digest("md5", wide(TEXT)))), sha1=True)
case("SHA-384 without OID", raw("rsa2048", block("rsa2048", digest("sha384", wide(TEXT)))))
pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
case("PSS", KEYS["rsa2048"].sign(wide(TEXT), pss, hashes.SHA256()))
case("octets not reversed", good.hex())
case("UTF-8", usual("rsa2048", TEXT.encode() + b"\0"))
case("UTF-16BE", usual("rsa2048", TEXT.encode("utf-16-be") + b"\0\0"))
case("with a byte order mark", usual("rsa2048", b"\xff\xfe" + wide(TEXT)))
case("no NUL", usual("rsa2048", wide(TEXT)[:-2]))
case("half a NUL", usual("rsa2048", wide(TEXT)[:-1]))
case("two NULs", usual("rsa2048", wide(TEXT) + b"\0\0"))
case("other text", usual("rsa2048", wide("2026-11-21T18:00:01Z")))
case("other key", usual("other2048", wide(TEXT)))
case("key too short", usual("rsa1024", wide(TEXT)), key="rsa1024")

garbage = {
    "garbage behind a short padding": block("rsa2048", info, ones=8),
    "garbage behind a short padding, without OID": block("rsa2048", bare, ones=8),
    "seven ones": block("rsa2048", info, ones=7),
    "no ones": block("rsa2048", info, ones=0),
    "one octet of garbage": block("rsa2048", info, ones=256 - len(info) - 4),
    "block type 2": block("rsa2048", info, first=b"\0\2"),
    "block type 0": block("rsa2048", info, first=b"\0\0"),
    "no zero behind the padding": block("rsa2048", info, end=b"\xff"),
    "no parameters in the OID": block(
        "rsa2048", bytes.fromhex("302f300b0609608648016503040201 0420".replace(" ", "")) + bare
    ),
    "OID of SHA-1 before SHA-256": block("rsa2048", OID["sha1"] + bare),
    "OID of SHA-512 before SHA-256": block("rsa2048", OID["sha512"] + bare),
    "long form of a length": block(
        "rsa2048", bytes.fromhex("308131300d060960864801650304020105000420") + bare
    ),
    "digest cut": block("rsa2048", bare[:-1]),
    "digest with an octet behind it": block("rsa2048", bare + b"\0"),
    "OID, digest with an octet behind it": block("rsa2048", info + b"\0"),
    "a bit of the padding is zero": block("rsa2048", info).replace(b"\xff", b"\xfe", 1),
}
for name, padded in garbage.items():
    case(name, raw("rsa2048", padded))
# With exponent 3 a cube that begins with a good block can be found without the key.
prefix = b"\0\1" + b"\xff" * 8 + b"\0" + info
low = int.from_bytes(prefix + b"\0" * (256 - len(prefix)), "big")
root = 1 << 1024
for bit in range(1023, -1, -1):
    if (root - (1 << bit)) ** 3 >= low:
        root -= 1 << bit
assert (root**3).to_bytes(256, "big").startswith(prefix)
case("forged for exponent 3", root.to_bytes(256, "big"), key="exponent3")

n = KEYS["rsa2048"].public_key().public_numbers().n
# Not every number leaves room for it in as many octets.
small, added = "", 1 << 2048
while added >= 1 << 2048:
    small += "x"
    added = int.from_bytes(usual("rsa2048", wide(small)), "big") + n
case("less than the modulus", usual("rsa2048", wide(small)), True, text=small)
case("the modulus added", added.to_bytes(256, "big"), text=small)
case("the modulus", n.to_bytes(256, "big"))
case("zero", bytes(256))
case("one", (1).to_bytes(256, "big"))
case("the modulus less one", (n - 1).to_bytes(256, "big"))
case("all ones", b"\xff" * 256)
text = good[::-1].hex()
case("a zero before it", "00" + text)
case("a zero behind it", text + "00")
case("cut", text[:-2])
case("a digit less", text[:-1])
case("a digit more", text + "0")
case("empty", "")
case("no hexadecimal", "g" + text[1:])
case("a space before it", " " + text[1:])
case("a sign", "+" + text[1:])
case("0x before it", "0x" + text[2:])
case("colons", text[:-1] + ":")
case("no ASCII", "é" + text[2:])

public = {
    name: key.public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    .hex()
    for name, key in KEYS.items()
}
print(json.dumps({"keys": public, "cases": cases}, indent=1, ensure_ascii=False))
