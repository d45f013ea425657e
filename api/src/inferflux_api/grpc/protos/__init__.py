"""Messages and services on the wire, as public clients know them.

The `.proto` files state what this server speaks of two public protocols. `*_pb2.py` and `*_pb2.pyi` are
generated from them, with `grpcio-tools` and from the folder `api/src`:

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. inferflux_api/grpc/protos/*.proto
"""
