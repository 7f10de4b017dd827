-- Gives the lease back, if it is the replica's own.
--
-- KEYS    lease, replicas
-- ARGV    id of the replica
-- ANSWER  1 if it was

call('ZREM', KEYS[2], ARGV[1])
local held = call('GET', KEYS[1])
if held and string.match(held, '^%d+ (%S+)$') == ARGV[1] then return call('DEL', KEYS[1]) end
return 0
