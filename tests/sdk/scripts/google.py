"""Signs in as a machine's service account, and asks a service: `google.py URL`."""

import json
import sys

# The folder of this script is not on the path (-I), so that this is the SDK and not this file.
import google.auth
from google.auth.transport.requests import AuthorizedSession, Request

credentials, project = google.auth.default()
credentials.refresh(Request())
answer = AuthorizedSession(credentials).get(sys.argv[1], timeout=20)
told = {"kind": type(credentials).__module__, "email": credentials.service_account_email, "project": project}
json.dump({**told, "token": credentials.token, "status": answer.status_code, "body": answer.text}, sys.stdout)
