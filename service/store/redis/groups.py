"""Groups in Redis. Lua counts versions in the same step as the write that they count.

    sayso:{tenant}:groups              sorted set of the names, all of score 0
    sayso:{tenant}:group_ids           hash from name to group id
    sayso:{tenant}:group:<group id>    name, description, created_at, version, slot (the latest)
    sayso:{tenant}:members:<group id>  sorted set of the speaker ids, all of score 0
    sayso:{tenant}:slots:<group id>    hash from speaker id to slot
    sayso:{tenant}:changes:<group id>  sorted set of the speaker ids by the version of their change
    sayso:{tenant}:left:<group id>     sorted set of the slots of those who left, by version
    sayso:{tenant}:memberships:<id>    set of the group ids of a speaker

A group is deleted in one step whatever its size: memberships that still name it are cleared when
their speakers are next written.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service.store.groups import (
    DEPARTURES,
    MAX_GROUPS,
    MAX_MEMBERS,
    Changes,
    Group,
    GroupPage,
    Member,
    MemberPage,
    Revision,
    group_exists,
    must_restart,
    no_such_group,
    too_many_groups,
    too_many_members,
    unknown_speakers,
)

Evaluate = Callable[[str, Sequence[bytes], Sequence[str | bytes | int]], Awaitable[Any]]
"""Runs a Lua script with keys and arguments."""

_LEAVE = f"""
local function leave(tenant, group_id, speaker_id)
  redis.call('SREM', tenant .. 'memberships:' .. speaker_id, group_id)
  if redis.call('ZREM', tenant .. 'members:' .. group_id, speaker_id) == 0 then return end
  local version = redis.call('HINCRBY', tenant .. 'group:' .. group_id, 'version', 1)
  local slot = redis.call('HGET', tenant .. 'slots:' .. group_id, speaker_id)
  redis.call('HDEL', tenant .. 'slots:' .. group_id, speaker_id)
  redis.call('ZREM', tenant .. 'changes:' .. group_id, speaker_id)
  redis.call('ZADD', tenant .. 'left:' .. group_id, version, slot)
  redis.call('ZREMRANGEBYSCORE', tenant .. 'left:' .. group_id, '-inf', version - {DEPARTURES})
end
"""

# For the scripts that write and delete speakers. `tenant` is the prefix of the tenant's keys.
SPEAKER_WRITTEN = """
local function speaker_written(tenant, speaker_id)
  local memberships = tenant .. 'memberships:' .. speaker_id
  for _, group_id in ipairs(redis.call('SMEMBERS', memberships)) do
    if redis.call('EXISTS', tenant .. 'group:' .. group_id) == 1 then
      local version = redis.call('HINCRBY', tenant .. 'group:' .. group_id, 'version', 1)
      redis.call('ZADD', tenant .. 'changes:' .. group_id, version, speaker_id)
    else
      redis.call('SREM', memberships, group_id)
    end
  end
end
"""
SPEAKER_DELETED = (
    _LEAVE
    + """
local function speaker_deleted(tenant, speaker_id)
  for _, group_id in ipairs(redis.call('SMEMBERS', tenant .. 'memberships:' .. speaker_id)) do
    leave(tenant, group_id, speaker_id)
  end
end
"""
)

# Every script: KEYS the tenant's names of groups; ARGV[1] the prefix of its keys, ARGV[2] a name.
_CREATE = """
local tenant, name, group_id = ARGV[1], ARGV[2], ARGV[3]
local existing = redis.call('HGET', tenant .. 'group_ids', name)
if existing then return existing == group_id and 1 or 0 end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[6]) then return -1 end
redis.call('ZADD', KEYS[1], 0, name)
redis.call('HSET', tenant .. 'group_ids', name, group_id)
redis.call('HSET', tenant .. 'group:' .. group_id,
  'name', name, 'description', ARGV[4], 'created_at', ARGV[5], 'version', 0, 'slot', 0)
return 1
"""

_GROUP = """
local function group(tenant, name)
  local group_id = redis.call('HGET', tenant .. 'group_ids', name)
  if not group_id then return nil end
  local fields = redis.call('HMGET', tenant .. 'group:' .. group_id, 'description', 'created_at')
  return {name, fields[1], fields[2], redis.call('ZCARD', tenant .. 'members:' .. group_id)}
end
"""

_GET = _GROUP + "return group(ARGV[1], ARGV[2])"

# ARGV[3]: the description.
_DESCRIBE = (
    _GROUP
    + """
local group_id = redis.call('HGET', ARGV[1] .. 'group_ids', ARGV[2])
if not group_id then return nil end
redis.call('HSET', ARGV[1] .. 'group:' .. group_id, 'description', ARGV[3])
return group(ARGV[1], ARGV[2])
"""
)

# ARGV[3]: how many.
_LIST = (
    _GROUP
    + """
local groups = {}
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, ARGV[3])) do
  groups[#groups + 1] = group(ARGV[1], name)
end
return groups
"""
)

# ARGV[3]: the token of this write.
_DELETE = """
local tenant, name = ARGV[1], ARGV[2]
if redis.call('EXISTS', tenant .. 'write:' .. ARGV[3]) == 1 then return 1 end
local group_id = redis.call('HGET', tenant .. 'group_ids', name)
if not group_id then return 0 end
for _, kind in ipairs({'group:', 'members:', 'slots:', 'changes:', 'left:'}) do
  redis.call('UNLINK', tenant .. kind .. group_id)
end
redis.call('HDEL', tenant .. 'group_ids', name)
redis.call('ZREM', KEYS[1], name)
redis.call('SET', tenant .. 'write:' .. ARGV[3], 1, 'EX', 60)
return 1
"""

# ARGV[3]: the most members; then speaker ids. Returns the group, or how many ids are unknown, or -1
# for too many members.
_ADD = (
    _GROUP
    + """
local tenant, name = ARGV[1], ARGV[2]
local group_id = redis.call('HGET', tenant .. 'group_ids', name)
if not group_id then return nil end
local members, unknown, new = tenant .. 'members:' .. group_id, 0, {}
for i = 4, #ARGV do
  if redis.call('EXISTS', tenant .. 'speaker:' .. ARGV[i]) == 0 then unknown = unknown + 1 end
  if not redis.call('ZSCORE', members, ARGV[i]) then new[#new + 1] = ARGV[i] end
end
if unknown > 0 then return unknown end
if redis.call('ZCARD', members) + #new > tonumber(ARGV[3]) then return -1 end
for _, speaker_id in ipairs(new) do
  local slot = redis.call('HINCRBY', tenant .. 'group:' .. group_id, 'slot', 1)
  local version = redis.call('HINCRBY', tenant .. 'group:' .. group_id, 'version', 1)
  redis.call('ZADD', members, 0, speaker_id)
  redis.call('HSET', tenant .. 'slots:' .. group_id, speaker_id, slot)
  redis.call('ZADD', tenant .. 'changes:' .. group_id, version, speaker_id)
  redis.call('SADD', tenant .. 'memberships:' .. speaker_id, group_id)
end
return group(tenant, name)
"""
)

# ARGV[3]...: speaker ids.
_REMOVE = (
    _GROUP
    + _LEAVE
    + """
local tenant, name = ARGV[1], ARGV[2]
local group_id = redis.call('HGET', tenant .. 'group_ids', name)
if not group_id then return nil end
for i = 3, #ARGV do leave(tenant, group_id, ARGV[i]) end
return group(tenant, name)
"""
)

# ARGV[3]: where to start, ARGV[4]: how many.
_MEMBERS = """
local group_id = redis.call('HGET', ARGV[1] .. 'group_ids', ARGV[2])
if not group_id then return nil end
return redis.call(
  'ZRANGEBYLEX', ARGV[1] .. 'members:' .. group_id, ARGV[3], '+', 'LIMIT', 0, ARGV[4])
"""

# ARGV[2]: a speaker id. Nil stands for a group that was deleted.
_OF = """
local names = {}
for _, group_id in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'memberships:' .. ARGV[2])) do
  names[#names + 1] = redis.call('HGET', ARGV[1] .. 'group:' .. group_id, 'name')
end
return names
"""

# ARGV[3]: the group id that the reader holds ('' for none), ARGV[4]: its version, ARGV[5]: how
# many. Returns group id, version, then version, slot and id ('' for one who left) of each change.
_CHANGES = f"""
local tenant, group_id = ARGV[1], redis.call('HGET', ARGV[1] .. 'group_ids', ARGV[2])
if not group_id then return nil end
local version = tonumber(redis.call('HGET', tenant .. 'group:' .. group_id, 'version'))
local since = tonumber(ARGV[4])
if group_id ~= ARGV[3] or since > version or since < version - {DEPARTURES} then since = 0 end
local answer = {{group_id, version}}
local function add(kind, describe)
  local rows = redis.call('ZRANGEBYSCORE', tenant .. kind .. group_id, '(' .. since, '+inf',
    'WITHSCORES', 'LIMIT', 0, ARGV[5])
  for i = 1, #rows, 2 do
    local slot, speaker_id = describe(rows[i])
    answer[#answer + 1] = {{tonumber(rows[i + 1]), tonumber(slot), speaker_id}}
  end
end
add('changes:', function(id)
  return redis.call('HGET', tenant .. 'slots:' .. group_id, id), id
end)
add('left:', function(slot) return slot, '' end)
return answer
"""


class RedisGroups:
    """`Groups` on Redis. `evaluate` runs scripts; `prefix` begins a tenant's keys."""

    def __init__(self, evaluate: Evaluate, *, prefix: Callable[[str], bytes]) -> None:
        self._evaluate = evaluate
        self._prefix = prefix

    async def create(self, tenant: str, group: Group) -> None:
        outcome = await self._run(
            _CREATE,
            tenant,
            *(group.name, secrets.token_hex(8), group.description),
            *(repr(float(group.created_at)), MAX_GROUPS),
        )
        if outcome < 0:
            raise too_many_groups()
        if not outcome:
            raise group_exists()

    async def get(self, tenant: str, name: str) -> Group:
        return _parse_group(await self._run(_GET, tenant, name))

    async def describe(self, tenant: str, name: str, description: str) -> Group:
        return _parse_group(await self._run(_DESCRIBE, tenant, name, description))

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> GroupPage:
        rows = await self._run(_LIST, tenant, _start_after(after), limit)
        groups = tuple(_parse_group(row) for row in rows)
        return GroupPage(groups, groups[-1].name if len(groups) == limit else None)

    async def delete(self, tenant: str, name: str) -> None:
        if not await self._run(_DELETE, tenant, name, secrets.token_hex(8)):
            raise no_such_group()

    async def add(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        distinct_ids = dict.fromkeys(speaker_ids)
        outcome = await self._run(_ADD, tenant, name, MAX_MEMBERS, *distinct_ids)
        if outcome == -1:
            raise too_many_members()
        if isinstance(outcome, int):
            raise unknown_speakers(outcome, len(distinct_ids))
        return _parse_group(outcome)

    async def remove(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        return _parse_group(await self._run(_REMOVE, tenant, name, *speaker_ids))

    async def members(
        self, tenant: str, name: str, *, limit: int, after: str | None = None
    ) -> MemberPage:
        ids = await self._run(_MEMBERS, tenant, name, _start_after(after), limit)
        if ids is None:
            raise no_such_group()
        speaker_ids = tuple(speaker_id.decode() for speaker_id in ids)
        return MemberPage(speaker_ids, speaker_ids[-1] if len(ids) == limit else None)

    async def of(self, tenant: str, speaker_id: str) -> Sequence[str]:
        names = await self._run(_OF, tenant, speaker_id)
        return sorted(name.decode() for name in names if name)

    async def changes(
        self, tenant: str, name: str, *, since: Revision | None, limit: int
    ) -> Changes:
        known = since or Revision("", 0)
        answer = await self._run(_CHANGES, tenant, name, known.group_id, known.version, limit)
        if answer is None:
            raise no_such_group()
        group_id, version, *rows = answer
        now = Revision(group_id.decode(), version)
        page = sorted(rows)[:limit]
        more = len(page) == limit
        return Changes(
            Revision(now.group_id, page[-1][0]) if more else now,
            must_restart(since, now),
            tuple(Member(slot, speaker_id.decode() or None) for _, slot, speaker_id in page),
            more,
        )

    async def _run(self, script: str, tenant: str, *args: str | bytes | int) -> Any:
        prefix = self._prefix(tenant)
        return await self._evaluate(script, [prefix + b"groups"], [prefix, *args])


def _start_after(after: str | None) -> bytes:
    return b"-" if after is None else b"(" + after.encode()


def _parse_group(row: Sequence[Any] | None) -> Group:
    if row is None:
        raise no_such_group()
    name, description, created_at, members = row
    return Group(name.decode(), description.decode(), float(created_at), members)
