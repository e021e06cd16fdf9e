"""LitServe with powfast as one of its middlewares: python lit.py PORT."""

import sys

import litserve

from powfast.servers.environment import PowMiddleware


class Sum(litserve.LitAPI):
    def setup(self, device):
        self.model = sum

    def decode_request(self, request):
        return request["x"]

    def predict(self, x):
        return self.model(x)

    def encode_response(self, output):
        return {"y": output}


if __name__ == "__main__":
    server = litserve.LitServer(Sum(), accelerator="cpu", middlewares=[PowMiddleware])
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
