"""What can go wrong on the way to a model file; each message names what to change.

ExportError            the export cannot be done as asked
├── CheckpointError    ... the checkpoint is missing, corrupt, unsafe or of another architecture
├── GraphError         ... the ONNX graph is not what the service can run
├── ParityError        ... the graph does not give the embeddings of the code it came from
└── TrialError         ... the trials cannot carry a calibration
"""

from service.errors import SaysoError


class ExportError(SaysoError):
    """Root of the tree; nothing has been written when it is raised."""


class CheckpointError(ExportError):
    pass


class GraphError(ExportError):
    pass


class ParityError(ExportError):
    pass


class TrialError(ExportError):
    pass
