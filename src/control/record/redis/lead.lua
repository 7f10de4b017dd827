-- Acquires the lease, or renews it.
--
-- KEYS    lease, epoch
-- ARGV    id of the replica, how long the lease is granted in ms
-- ANSWER  {epoch, holder}; holder is '' if it can't be told
--
-- The lease is the text "<epoch> <holder>". A new epoch is at least the present in milliseconds: so epochs go on rising
-- when Redis came back empty, and a leader from before then is recognised as deposed.

local held = call('GET', KEYS[1])
local last = number(call('GET', KEYS[2])) or 0
local epoch, holder
if held then epoch, holder = string.match(held, '^(%d+) (%S+)$') end
if number(epoch) and holder == ARGV[1] then
  call('PEXPIRE', KEYS[1], ARGV[2])
  return { epoch, holder }
end
if number(epoch) and #holder <= 128 and call('PTTL', KEYS[1]) > 0 then
  return { epoch, holder }
end
-- Nobody's, or no lease of ours, or one that would never end.
epoch = text(math.max(last + 1, instant()))
call('SET', KEYS[1], epoch .. ' ' .. ARGV[1], 'PX', ARGV[2])
call('SET', KEYS[2], epoch)
return { epoch, ARGV[1] }
