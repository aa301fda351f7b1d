"""A server on this machine that speaks S3, with made-up credentials; import its fixture ``s3``."""

import logging
import os

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

NAMES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_PROFILE")


@pytest.fixture(scope="module")
def s3():
    """The URL of an empty bucket; this process and its children reach it as they would reach any other."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server.start()
    host, port = server.get_host_and_port()
    before = {name: os.environ.pop(name, None) for name in (*NAMES, "AWS_EC2_METADATA_DISABLED")}
    os.environ |= dict(zip(NAMES, (f"http://{host}:{port}", "made-up", "made-up", "us-east-1"), strict=False))
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    try:
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        fsspec.get_filesystem_class("s3").clear_instance_cache()
