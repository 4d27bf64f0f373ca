"""Loaded models: what embeds with one, what compares its embeddings, and which one a call needs."""

from dataclasses import dataclass

from service.calls.verification import Verifier
from service.decisions.decision import Decision
from service.decisions.policy import PolicyDefaults
from service.inference.embedder import AudioSource, Embedder, Stream
from service.store import Speaker, Voiceprint


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. `defaults` are what a request's policy leaves out."""

    embedder: Embedder
    verifier: Verifier
    defaults: PolicyDefaults

    @property
    def model_id(self) -> str:
        return self.embedder.contract.model_id


class LoadedModels:
    """The one model of a server; `service.calls.migration` has the two of an upgrade."""

    def __init__(self, current: LoadedModel) -> None:
        self.current = current

    def resolve_claim(self, speaker: Speaker | None) -> tuple[LoadedModel, Voiceprint | Decision]:
        """The model to compare with, and the voiceprint or the decision that needs no audio."""
        return self.current, self.current.verifier.resolve_claim(speaker)

    def select(self, model_id: str) -> LoadedModel:
        """The model of that id; the current one if it is not loaded."""
        return self.current

    def stream(
        self,
        model: LoadedModel,
        source: AudioSource | None = None,
        *,
        searching: bool = False,
        enrolling: bool = False,
    ) -> Stream:
        """A new utterance, to be compared with voices of `model`. It is `searching` if groups are
        searched for it, and `enrolling` if it may become part of a voice."""
        return model.embedder.stream(source, enrolling=enrolling)
