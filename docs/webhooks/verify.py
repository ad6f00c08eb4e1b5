"""Checks a webhook from Tieline. Python 3, standard library only.

Hand in the bytes of the body exactly as they came: not parsed, not decoded, not trimmed.
"""

import base64
import hashlib
import hmac
import time

TOLERANCE = 5 * 60
"""How many seconds a webhook's time may be off: an old one may have been recorded and sent again by somebody else."""


def verify_standard(secrets, headers, body, now=None):
    """Whether a body carries a Standard Webhooks signature by one of your secrets, and is fresh.

    secrets: "whsec_…" each; two while you exchange one. headers: by their names in lower case. body: bytes.
    """
    message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    # Anybody may send any header: a number of thousands of digits would be an error further down, not a refusal.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        return False
    signed = encoded(f"{message}.{timestamp}.") + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys if key]
    given = [text.removeprefix("v1,") for text in headers.get("webhook-signature", "").split(" ") if text.startswith("v1,")]
    # An empty key, of a setting left empty, would let anybody sign. Each is compared with each, and none ends the comparison early.
    matches = [hmac.compare_digest(encoded(one), other) for one in given for other in expected]
    return any(matches)


def verify_vendor(client_secret, signature, body):
    """Whether X-Liveperson-Signature, "sha1=…" or "sha256=…", is that of a body under an application's client secret.

    signature: None, if there is no such header.
    """
    name, _, given = (signature or "").partition("=")
    if name not in ("sha1", "sha256") or not client_secret:
        return False
    expected = base64.b64encode(hmac.digest(client_secret.encode(), body, name))
    return hmac.compare_digest(encoded(given), expected)


def encoded(text):
    """The bytes of a header. Some frameworks hand over what is not UTF-8 as lone surrogates, which must not be an error here."""
    return text.encode(errors="surrogatepass")


if __name__ == "__main__":
    import json
    import sys

    # For tests: one JSON object a line, and one line of verdicts for each.
    for line in sys.stdin:
        one = json.loads(line)
        bytes_ = base64.b64decode(one["body"])
        standard = verify_standard(one["secrets"], one["headers"], bytes_, one["now"])
        vendor = verify_vendor(one["client_secret"], one["headers"].get("x-liveperson-signature"), bytes_)
        print("ok" if standard else "no", "ok" if vendor else "no")
