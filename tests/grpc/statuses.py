"""What a client is told, through an edge and by a real Temporal itself, byte by byte.

Neither the SDK nor a message's schema is needed: what is refused is refused by its length, its deadline or its path.
"""

import grpc

NAMES = "/temporal.api.workflowservice.v1.WorkflowService/"


def field(number, value):
    """A field of Protocol Buffers: bytes."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def start(size):
    """StartWorkflowExecution with an input of that many bytes."""
    name = field(1, b"Add")
    payloads = field(1, field(2, bytes(size)))
    return (field(1, b"default") + field(2, b"statuses") + field(3, name) + field(4, field(1, b"statuses"))
            + field(5, payloads) + field(9, b"request"))


CASES = {
    "no deadline": ("PollWorkflowTaskQueue", field(1, b"default") + field(2, field(1, b"q")), None),
    "a deadline of 1.5 s": ("PollWorkflowTaskQueue", field(1, b"default") + field(2, field(1, b"q")), 1.5),
    "an input of 3 MiB": ("StartWorkflowExecution", start(3 << 20), 10),
    "a message of 5 MiB": ("StartWorkflowExecution", start(5 << 20), 10),
    "no such namespace": ("DescribeNamespace", field(1, b"none"), 10),
    "no such workflow": ("DescribeWorkflowExecution", field(1, b"default") + field(2, field(1, b"none")), 10),
    "no such method": ("None", b"", 10),
    "no such service": ("/none.None/None", b"", 10),
    "nonsense": ("DescribeNamespace", b"\xff\xff", 10),
}


def told(channel, method, message, timeout):
    """Code, message and binary details of a call's end."""
    path = method if method.startswith("/") else NAMES + method
    try:
        channel.unary_unary(path)(message, timeout=timeout)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return error.code().name, error.details(), details
    return "OK", "", b""


def compare(direct, edge):
    """All cases, at both addresses."""
    with grpc.insecure_channel(direct) as one, grpc.insecure_channel(edge) as other:
        for case, call in CASES.items():
            by_server, by_edge = told(one, *call), told(other, *call)
            print(f"{case}: {by_edge[0]}, {by_edge[1]!r}, {len(by_edge[2])} bytes of details", flush=True)
            assert by_edge == by_server, (case, by_edge, by_server)
