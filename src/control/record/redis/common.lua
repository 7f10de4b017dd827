-- What several scripts need; it stands in front of each of them.
--
-- Numbers travel as decimal text. What another program may have written is read with care: text that is no number of
-- ours counts as nothing. A key of another type makes its first command fail, and every script asks all that can fail
-- before it writes anything: a call has its whole effect or none.

local call = redis.call

local function number(text)
  if text and #text <= 15 and string.match(text, '^%d+$') then return tonumber(text) end
  return nil
end

local function text(value)
  return string.format('%.0f', value)
end

-- The instant, in whole milliseconds since the epoch.
local function instant()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A service's record, or nil unless it is whole. And its generation, which outlives a reset.
local function record(key, state_bytes_max)
  local kept = call('HMGET', key, 'generation', 'epoch', 'limit', 'written_at', 'state')
  local generation, epoch, limit, written_at = number(kept[1]), number(kept[2]), number(kept[3]), number(kept[4])
  local state = kept[5]
  if generation and epoch and limit and written_at and state and #state <= state_bytes_max then
    return { generation = generation, epoch = epoch, limit = limit, written_at = written_at, state = state }, generation
  end
  return nil, generation or 0
end

-- Puts an entry in front of a capped list and sees to it that the list is kept for so long at least.
local function remember(key, entry, most, kept_ms)
  call('LPUSH', key, entry)
  call('LTRIM', key, 0, most - 1)
  if call('PTTL', key) < kept_ms then call('PEXPIRE', key, text(kept_ms)) end
end
