-- Puts a decision in force: record, gate and what is remembered, in one step.
--
-- KEYS    record, gate, changes, ticks, epoch
-- ARGV    1 epoch of the writer, 2 generation that it knows or 0, 3 state, 4 most bytes of a state,
--         5 limit, 6 where it goes without a leader, both in thousandths a second, 7 hold, 8 decay, both in ms,
--         9 how long all of it is kept in ms, 10 the step, 11 the change or nothing, 12 most changes, 13 most ticks
-- ANSWER  {'done', generation, instant in ms} | {'deposed'} | {'superseded'}
--
-- Of the gate only the leader's part is written, in place; see src/window/gate.rs. A gate that is none of ours begins
-- anew, with a second's worth.

local EXACT_MAX = 9007199254740991   -- 2^53 - 1

local epoch, known, limit, kept_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[9])
local now_ms = instant()
local before, generation = record(KEYS[1], ARGV[4] + 0)
local leading = number(call('GET', KEYS[5])) or 0
local is_gate = call('STRLEN', KEYS[2]) == 64
if is_gate then
  local mark, _, at_ms, tokens, admitted, refused = struct.unpack('<I1c36I6I7I7I7', call('GETRANGE', KEYS[2], 0, 63))
  is_gate = mark == 1 and at_ms * 1000 <= EXACT_MAX and math.max(tokens, admitted, refused) <= EXACT_MAX
end
call('LLEN', KEYS[3])
call('LLEN', KEYS[4])

-- An epoch from far in the future is none of ours: it would lock every leader out.
local written_in = before and before.epoch < now_ms + 86400000 and before.epoch or 0
if math.max(leading, written_in) > epoch then return { 'deposed' } end
if (before and generation or 0) ~= known then return { 'superseded' } end

if not before or before.limit ~= limit then generation = generation + 1 end
call('HSET', KEYS[1], 'generation', text(generation), 'epoch', ARGV[1], 'limit', ARGV[5], 'written_at', text(now_ms),
  'state', ARGV[3])
call('PEXPIRE', KEYS[1], ARGV[9])

local part = struct.pack('<I1I6I6I6I6I6I6', 1, limit, tonumber(ARGV[6]), now_ms, tonumber(ARGV[7]), tonumber(ARGV[8]),
  generation)
if is_gate then
  call('SETRANGE', KEYS[2], 0, part)
else
  call('SET', KEYS[2], part .. struct.pack('<I6I7I7I7', now_ms, math.max(limit * 1000, 1000000), 0, 0))
end
call('PEXPIRE', KEYS[2], ARGV[9])

local dated = text(generation) .. ' ' .. text(now_ms) .. ' '
remember(KEYS[4], dated .. ARGV[10], ARGV[13], kept_ms)
if ARGV[11] ~= '' then
  remember(KEYS[3], dated .. ARGV[11], ARGV[12], kept_ms)
elseif call('PTTL', KEYS[3]) < kept_ms then
  call('PEXPIRE', KEYS[3], ARGV[9])
end
return { 'done', text(generation), text(now_ms) }
