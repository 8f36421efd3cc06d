"""An S3 server, moto's, which checks signatures; run by the interpreter that has moto.

The first line on stdout tells where it is and with which keys; after that each line on stdin is a
command, as JSON, and each line on stdout its answer. It ends with its stdin.
"""

import json
import os
import sys
import threading

# So many calls set up the first user, who has no key yet; all others must be signed.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

import boto3  # noqa: E402
from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

REGION = "eu-central-1"
ALLOW = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]})


class Server:
    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.down = False
        self.requests = 0

    def __call__(self, environ, start_response):
        self.requests += 1
        if self.down:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code></Error>"]
        return self.app(environ, start_response)


def client(name, url, keys):
    return boto3.client(name, endpoint_url=url, region_name=REGION,
                        aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
                        aws_session_token=keys[2] if len(keys) > 2 else None)


def set_up(url, bucket):
    """The owner of everything, and the keys of a role that ends with the session."""
    iam = client("iam", url, ("none", "none"))
    iam.create_user(UserName="owner")
    made = iam.create_access_key(UserName="owner")["AccessKey"]
    iam.put_user_policy(UserName="owner", PolicyName="all", PolicyDocument=ALLOW)
    owner = (made["AccessKeyId"], made["SecretAccessKey"])
    iam = client("iam", url, owner)
    role = iam.create_role(RoleName="pods", AssumeRolePolicyDocument=TRUST)["Role"]
    iam.put_role_policy(RoleName="pods", PolicyName="all", PolicyDocument=ALLOW)
    session = client("sts", url, owner).assume_role(RoleArn=role["Arn"], RoleSessionName="test")
    session = session["Credentials"]
    s3 = client("s3", url, owner)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return s3, owner, (session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])


def names(s3, bucket):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sorted(o["Key"] for page in pages for o in page.get("Contents", []))


def main():
    bucket = sys.argv[1]
    server = Server()
    http = make_server("127.0.0.1", 0, server, threaded=True)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d" % http.server_port
    s3, owner, session = set_up(url, bucket)
    print(json.dumps({"url": url, "region": REGION, "owner": owner, "session": session}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = None
        if command["do"] == "names":
            answer = names(s3, bucket)
        elif command["do"] == "read":
            body = s3.get_object(Bucket=bucket, Key=command["name"])["Body"]
            answer = body.read().decode("latin-1")
        elif command["do"] == "write":
            s3.put_object(Bucket=bucket, Key=command["name"],
                          Body=command["data"].encode("latin-1"))
        elif command["do"] == "remove":
            s3.delete_object(Bucket=bucket, Key=command["name"])
        elif command["do"] == "down":
            server.down = command["down"]
        elif command["do"] == "requests":
            answer = server.requests
        print(json.dumps(answer), flush=True)


main()
