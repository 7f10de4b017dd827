-- What is remembered of a service, newest first: its changes, its ticks, or both.
--
-- KEYS    lists
-- ARGV    most bytes of an entry, then most entries of each list
-- ANSWER  a list for each; entries that are too long to be ours are ''

local lists = {}
for k = 1, #KEYS do
  local found = call('LRANGE', KEYS[k], 0, ARGV[k + 1] - 1)
  for i = 1, #found do
    if #found[i] > ARGV[1] + 0 then found[i] = '' end
  end
  lists[k] = found
end
return lists
