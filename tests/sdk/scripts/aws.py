"""Puts an object into a bucket and gets it back, with the keys that a container has: `aws.py ENDPOINT`."""

import json
import sys

import boto3
from botocore.config import Config

session = boto3.Session(region_name="eu-west-1")
keys = session.get_credentials().get_frozen_credentials()
config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
client = session.client("s3", endpoint_url=sys.argv[1], config=config)
client.put_object(Bucket="bucket", Key="a key/x", Body=b"the object")
got = client.get_object(Bucket="bucket", Key="a key/x")["Body"].read().decode()
json.dump({"key": keys.access_key, "secret": keys.secret_key, "token": keys.token, "got": got}, sys.stdout)
