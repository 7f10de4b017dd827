-- How some services stand; and, in the first of several calls, that a replica lives.
--
-- KEYS    replicas, lease, the gates of n services, their hands
-- ARGV    id of the replica or '' in a further call, after how many ms without a word a replica doesn't count,
--         most bytes of a hand
-- ANSWER  {instant, replicas, lease, n gates, n hands}; '' for what is not there, or too long to be ours

local now_ms = instant()
local replicas = 0
if ARGV[1] ~= '' then
  call('ZADD', KEYS[1], text(now_ms), ARGV[1])
  -- A clock that was set back must not make the dead live.
  call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now_ms - ARGV[2]))
  call('ZREMRANGEBYSCORE', KEYS[1], text(now_ms + ARGV[2]), '+inf')
  call('PEXPIRE', KEYS[1], text(10 * ARGV[2]))
  replicas = call('ZCARD', KEYS[1])
end
local answer = { text(now_ms), text(replicas), '' }
local services = (#KEYS - 2) / 2
local values = call('MGET', unpack(KEYS, 2))
local lease = values[1]
if lease and #lease <= 256 then answer[3] = lease end
for i = 1, 2 * services do
  local value, most = values[i + 1], ARGV[3] + 0
  if i <= services then most = 64 end
  answer[i + 3] = value and #value <= most and value or ''
end
return answer
