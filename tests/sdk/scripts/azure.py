"""Signs in with a managed identity, and asks a service: `azure.py CREDENTIAL SCOPE URL`."""

import json
import sys

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

kind, scope, url = sys.argv[1:]
credential = {"default": DefaultAzureCredential, "managed": ManagedIdentityCredential}[kind]()
try:
    token = credential.get_token(scope)
except ClientAuthenticationError as error:
    told = {"error": str(error)}
else:
    answer = requests.get(url, headers={"Authorization": f"Bearer {token.token}"}, timeout=20)
    told = {"token": token.token, "expires_on": token.expires_on, "status": answer.status_code, "body": answer.text}
json.dump(told, sys.stdout)
