"""Loaded models: an embedder and a verifier for each, and the choice of the one for a call."""

from dataclasses import dataclass

from service.calls.verification import Verifier
from service.decisions.decision import Decision
from service.decisions.policy import PolicyDefaults
from service.inference.embedder import AudioSource, Embedder, Stream
from service.store import Speaker, Voiceprint


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. `defaults` fill in what a request's policy leaves out."""

    embedder: Embedder
    verifier: Verifier
    defaults: PolicyDefaults

    @property
    def model_id(self) -> str:
        return self.embedder.contract.model_id


class LoadedModels:
    """The one model of a server; `service.calls.migration` handles the two of an upgrade."""

    def __init__(self, current: LoadedModel) -> None:
        self.current = current

    def resolve_claim(self, speaker: Speaker | None) -> tuple[LoadedModel, Voiceprint | Decision]:
        """Return the model to compare with, and the voiceprint or a decision without audio."""
        return self.current, self.current.verifier.resolve_claim(speaker)

    def select(self, model_id: str) -> LoadedModel:
        """Return the model of that id, or the current one if it is not loaded."""
        return self.current

    def open_stream(
        self,
        model: LoadedModel,
        source: AudioSource | None = None,
        *,
        searching: bool = False,
        enrolling: bool = False,
    ) -> Stream:
        """Open a stream for an utterance that is compared with voices of `model`; `searching` if
        groups are searched with it, `enrolling` if it may become part of a voice."""
        return model.embedder.open_stream(source, enrolling=enrolling)
