"""Named policies: rules for kinds of calls, which the operator keeps on the server.

    [payments]
    description = "transfers and new payees"
    target_false_match_rate = 0.0005
    min_net_speech_s = 5
    watchlists = ["fraud"]

    [payments.sequential]
    max_net_speech_s = 12

A request names one, so that the rules of a business do not live in its telephone menus. As with a
request's own policy, none is ever looser than the server's.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.decisions.policy import Costs, RequestedPolicy, RequestedTest
from service.errors import InvalidArgument, SettingsError

MAX_WATCHLISTS = 16
"""Groups that one voice is screened against."""

_Rate = Annotated[float, Field(gt=0, lt=1)]
_ErrorRate = Annotated[float, Field(gt=0, lt=0.5)]


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """`rules` lies between the server's policy and a request's; every call by this policy is
    screened against `watchlists`."""

    name: str
    description: str
    rules: RequestedPolicy
    watchlists: tuple[str, ...] = ()


class NamedPolicies:
    """The policies of a server by their names; a request without one has no rules beside its own
    and the server's."""

    def __init__(self, policies: Mapping[str, NamedPolicy] | None = None) -> None:
        self._policies = dict(policies or {})

    @classmethod
    def read(cls, path: Path | None) -> "NamedPolicies":
        """Read a TOML file; None stands for no policies. Raises `SettingsError`."""
        if path is None:
            return cls()
        try:
            tables = _FILE.validate_python(tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"SAYSO_POLICIES: {path} cannot be read: {error}") from error
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise SettingsError(f"SAYSO_POLICIES: {path}: {place}: {fault['msg']}") from error
        return cls({name: table.make_policy(name) for name, table in tables.items()})

    def __iter__(self) -> Iterator[NamedPolicy]:
        return iter(sorted(self._policies.values(), key=lambda policy: policy.name))

    def get(self, name: str, *, field: str = "policy_name") -> NamedPolicy | None:
        """Return the policy, or None for an empty name; raises `InvalidArgument` for any other."""
        if not name:
            return None
        if name not in self._policies:
            raise InvalidArgument(
                "is no policy of this server; GetServerInfo lists them", field=field
            )
        return self._policies[name]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _CostTable(_Table):
    target_prior: _Rate
    miss_cost: float = Field(gt=0)
    false_accept_cost: float = Field(gt=0)


class _TestTable(_Table):
    false_match_rate: _ErrorRate | None = None
    false_non_match_rate: _ErrorRate | None = None
    max_net_speech_s: float | None = Field(None, gt=0)


class _PolicyTable(_Table):
    description: str = Field("", max_length=256)
    target_false_match_rate: _Rate | None = None
    costs: _CostTable | None = None
    min_net_speech_s: float | None = Field(None, ge=0, le=60)
    min_snr_db: float | None = None
    sequential: _TestTable | None = None
    watchlists: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        [], max_length=MAX_WATCHLISTS
    )

    def make_policy(self, name: str) -> NamedPolicy:
        criterion: float | Costs | None = self.target_false_match_rate
        if self.costs is not None:
            if criterion is not None:
                raise SettingsError(
                    f"SAYSO_POLICIES: {name}: has both target_false_match_rate and costs; keep one"
                )
            criterion = Costs(**self.costs.model_dump())
        test = self.sequential
        return NamedPolicy(
            name,
            self.description,
            RequestedPolicy(
                criterion,
                self.min_net_speech_s,
                self.min_snr_db,
                None
                if test is None
                else RequestedTest(
                    test.false_match_rate, test.false_non_match_rate, test.max_net_speech_s
                ),
            ),
            tuple(self.watchlists),
        )


_Name = Annotated[str, Field(min_length=1, max_length=64)]
_FILE = TypeAdapter(dict[_Name, _PolicyTable])
