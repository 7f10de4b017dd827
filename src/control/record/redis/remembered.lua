-- What is remembered of a service, newest first.
--
-- KEYS    changes, ticks
-- ARGV    most changes, most ticks, most bytes of an entry
-- ANSWER  {changes, ticks}; entries that are too long to be ours are ''

local function entries(key, most)
  local found = call('LRANGE', key, 0, most - 1)
  for i = 1, #found do
    if #found[i] > ARGV[3] + 0 then found[i] = '' end
  end
  return found
end

return { entries(KEYS[1], ARGV[1]), entries(KEYS[2], ARGV[2]) }
