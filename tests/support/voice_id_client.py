"""boto3's client of Voice ID against a gateway; None where boto3 is missing."""

from typing import Any

try:
    import boto3
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
    from botocore.config import Config
    from botocore.exceptions import ClientError

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
DOMAIN_ID = "abcdefghij0123456789AB"


def make_client(address: str, *, key_id: str = KEY_ID, secret: str = SECRET) -> Any:
    """A client as an application has it, but for `endpoint_url`; it does not retry."""
    return boto3.client(
        "voice-id",
        endpoint_url=f"http://{address}",
        region_name="eu-central-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def read_error(error: "ClientError") -> tuple[str, int]:
    """The code and the HTTP status of an error."""
    response = error.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def sign(url: str, body: bytes, headers: dict[str, str], *, service: str = "voiceid") -> Any:
    """The headers of a POST, signed by botocore."""
    request = botocore.awsrequest.AWSRequest("POST", url, headers=headers, data=body)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    signed = dict(request.prepare().headers)
    signed.pop("Content-Length", None)
    return signed
