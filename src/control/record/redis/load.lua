-- A service's record.
--
-- KEYS    record
-- ARGV    most bytes of a state
-- ANSWER  {generation, epoch, limit in thousandths a second, instant in ms, state}, or {} if there is none

local kept = record(KEYS[1], ARGV[1] + 0)
if not kept then return {} end
return { text(kept.generation), text(kept.epoch), text(kept.limit), text(kept.written_at), kept.state }
