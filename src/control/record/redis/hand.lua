-- What an operator does to a service; it is remembered in the same step.
--
-- KEYS    hand, record, changes
-- ARGV    'lay' | 'lift' | 'reset', entry, hand or '', its lifetime in ms or '', most changes,
--         how long changes are kept at least in ms
-- ANSWER  {instant in ms, '1' if there was something to lift or reset}
--
-- A hand is the text "<instant> <hand>": its own instants are relative to that one. It ends by itself.

local now_ms = instant()
local generation = number(call('HGET', KEYS[2], 'generation')) or 0
call('LLEN', KEYS[3])
call('STRLEN', KEYS[1])

local found = '1'
if ARGV[1] == 'lay' then
  call('SET', KEYS[1], text(now_ms) .. ' ' .. ARGV[3], 'PX', ARGV[4])
elseif ARGV[1] == 'lift' then
  found = text(call('DEL', KEYS[1]))
  if found == '0' then return { text(now_ms), found } end
else
  found = text(call('HDEL', KEYS[2], 'state'))
end
remember(KEYS[3], text(generation) .. ' ' .. text(now_ms) .. ' ' .. ARGV[2], ARGV[5], tonumber(ARGV[6]))
return { text(now_ms), found }
