"""Server reflection, which describes the API: `grpc.reflection.v1`, and `v1alpha` for old clients.

The messages of both are the same; gRPC for Python has only those of `v1alpha`.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

SERVICE_NAME = "grpc.reflection.v1.ServerReflection"

_METHOD = "ServerReflectionInfo"
_NEWER, _OLDER = "grpc.reflection.v1", "grpc.reflection.v1alpha"


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Add reflection of `services` and of itself to a server."""
    descriptor_pool.Default().AddSerializedFile(_build_v1_file().SerializeToString())
    servicer = reflection.aio.ReflectionServicer((*services, SERVICE_NAME, reflection.SERVICE_NAME))
    older: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    older(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    newer = grpc.method_handlers_generic_handler(SERVICE_NAME, {_METHOD: handler})
    server.add_generic_rpc_handlers((newer,))


def _build_v1_file() -> descriptor_pb2.FileDescriptorProto:
    """Build reflection.proto of v1 from that of v1alpha: only the package name differs."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace(_OLDER, _NEWER)
    newer = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    newer.name = "grpc/reflection/v1/reflection.proto"
    return newer
