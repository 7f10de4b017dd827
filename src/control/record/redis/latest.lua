-- The last step of the law for each of some services.
--
-- KEYS    the ticks of the services
-- ARGV    most bytes of an entry
-- ANSWER  an entry for each; '' where there is none, or none of ours

local answer = {}
for i = 1, #KEYS do
  local entry = redis.pcall('LINDEX', KEYS[i], 0)
  answer[i] = type(entry) == 'string' and #entry <= ARGV[1] + 0 and entry or ''
end
return answer
