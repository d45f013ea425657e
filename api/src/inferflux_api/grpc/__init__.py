"""gRPC beside HTTP: protocols that public clients speak, under the same governance.

Everything here but `start` needs the packages of the extra `grpc`.
"""
