-- Many decisions over many counters in one call: read all, decide in order, write what changed, answer in one string.
--
-- It says in Lua what src/window says in Rust: that is the place to read why the arithmetic is as it is, and a test
-- holds the two equal, answer by answer and byte by byte. What is said here is why the script is written as it is.
--
-- CALL
--   EVALSHA <sha> <n> <key 1> ... <key n> <policies> <charges> [<instant>]
--
--   keys      1 to 512, distinct, all on one node.
--   policies  17 bytes each, first one per key in the order of the keys, then those by which a decision charges a key
--             a second time in another way; behind them 2 bytes for each of the latter: the number of its key.
--
--             bytes   sliding window (kind 1 to 4)   fixed window (kind 5)   token bucket (kind 6)     gate (kind 7)
--             A reference window (kind 8) has 4 limit, 6 seconds for which its key is kept, 6 nothing.
--             1       kind: the pair format          kind                    kind                      kind
--             4       limit                          limit                   units that drain in 1 us  1: counts only
--             6       window, ms                     window, ms              units that a hit costs    limit without a value
--             6       tick, ms                       0                       burst                     0
--
--   charges   9 bytes each, at most 1024, decision after decision: 2 number of the policy, 1 flags, 6 hits.
--             flags = enforcement (0 enforced, 1 quota, 2 shadow) + 4 hits are given back
--                     + 8 every counter on its own (else all or nothing) + 16 last of its decision
--                     + 32 only those that are over, if one is
--             gates come after the others of their decision, each once; hits are requests then
--   instant   microseconds since the epoch instead of TIME. For tests: keys then live an hour longer, because Redis's
--             own time does not follow.
--
-- ANSWER, 13 bytes for each charge: 7 used (of a gate: its limit) * 16 + flags, 6 milliseconds until reset (of a gate with
--   room: until it is full).
--   flags = verdict (0 within, 1 over, 2 never) + 4 charged, or for all charges of a decision that was not made
--           8 a key holds something that is no string, 9 a key holds a string that no counter of that kind has
--
-- VALUES, all numbers lowest byte first
--   sliding window   4 sum | 6 newest tick | 4 its hits | 4 tick length, ms | 1 pair format |
--                    then the older pairs, oldest first: 1 or 3 tick modulo 2^8 or 2^24, 2 or 4 hits
--   fixed window     6 number of the window | 6 hits
--   reference window decimal text, as INCRBY writes it: envoyproxy/ratelimit may share the key, whose name says the window
--   token bucket     7 instant, us | 7 debt | 6 units per hit | 6 instant until which the key is kept, ms
--   gate             1 mark | 6 limit, 1/1000 per s | 6 toward | 6 written at, ms | 6 hold, ms | 6 decay, ms | 6 generation |
--                    6 instant, ms | 7 tokens, millionths | 7 admitted | 7 refused        (src/window/gate.rs)
--
-- WHAT IT COSTS
--   Redis's Lua interns every string and reads all of its bytes for that, so calls are cheap and bytes are not:
--   arguments and answer are one packed string each, read and written by one struct call. A sliding window whose newest
--   tick grows writes 14 bytes in place of the log (SETRANGE). Expiry costs as much as the rest of a write: it is set
--   when a log begins a new window's length of time, far enough ahead for all hits of that length, and kept
--   otherwise (KEEPTTL). Let h be the instant at which it was set to h + 2 windows + 2 ticks: a hit of the same
--   length comes before h + window + tick and has left by h + 2 windows + 2 ticks. No key vanishes before its last hit.
--   A number given to redis.call is turned into text the slow way, so texts are given. Functions are few and small,
--   because each is made anew at every call; what is needed once stands where it is needed.
--
-- WHAT MAY BE UNDER A KEY
--   MGET says nil for a key that holds a list, as if there were none, and SET would replace it: so, if any key seems
--   missing, one EXISTS asks. A string that can't be a counter of the kind is left alone as well. Decisions that
--   charge such a key are not made and say so; the others of the call go on. Treating it as empty could admit
--   more than the limit, and for ever so if it came back.
--
-- ORDER OF WORK
--   All writes come after all decisions, and nothing between them can fail: a call has its whole effect or none.

local call, unpack_from, pack = redis.call, struct.unpack, struct.pack
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local cut, times, text = string.sub, string.rep, string.format

-- The four pair formats of a log: how a pair is packed, its length, and how many different offsets it can say.
local PAIR = {'<I1I2', '<I1I4', '<I3I2', '<I3I4'}
local PAIR_BYTES = {3, 5, 5, 7}
local OFFSETS = {256, 256, 16777216, 16777216}
local FIXED_WINDOW, TOKEN_BUCKET, GATE, REFERENCE_WINDOW = 5, 6, 7, 8

local HEADER = '<I4I6I4I4I1'
local FIRST_PAIR = 20                -- where it begins, counted from 1
local LOG_BYTES_MAX = 8192           -- no log of ours is longer: bounds the work on a foreign value
local HITS_MAX = 281474976710655     -- 2^48 - 1
local EXACT_MAX = 9007199254740991   -- 2^53 - 1
local INSTANT_MAX_MS = 9007199254740 -- 2^53 us
local WRONG_TYPE, UNREADABLE = 8, 9
local RATE_MAX = 1000000000000       -- thousandths per second
local KEPT_MS, RENEWED_MS, STEP_MS = 4200000, 600000, 1000

local now_us
if ARGV[3] then
  now_us = tonumber(ARGV[3])
else
  local time = call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now_ms = floor(now_us / 1000)
local longer_ms = ARGV[3] and 3600000 or 0

local keys = #KEYS
local policies = (#ARGV[1] + 2 * keys) / 19
local policy = {unpack_from('<' .. times('I1I4I6I6', policies) .. times('I2', policies - keys), ARGV[1])}
local values = call('MGET', unpack(KEYS))

-- One counter is spread over these tables.
--                        sliding window                                   fixed window          token bucket         gate
local sum = {}         -- hits in the log                                | hits                | debt in units      | tokens
local newest = {}      -- newest tick in the value, -1 if none           | number of window    | instant of it, us  | instant, ms
local newest_hits = {} -- hits of that tick                              |                     | units per hit      | limit
local oldest = {}      -- tick of the oldest hits, -1 if none            |                     |                    | admitted
local first = {}       -- where the older pairs begin
-- What only few counters have.
local past = {}        -- where the older pairs have ended, if not with the value
local format = {}      -- how they are packed, if not as the policy says
local added = {}       -- hits of this call, if its tick is a newer one
local renewed = {}     -- whether the value must be written whole (log: and its expiry set)
local keep_until = {}  --                                                |                     | as stored, ms      | how long, ms
local rate = {}        --                                                |                     | policy of last     | refused
local fault = {}       -- why the counter can't be used
local changed = {}     -- whether it must be written

-- A bucket's debt in units of another rate; see `converted` in src/window/bucket.rs.
local function converted(units, from, to)
  if units == 0 then return 0 end
  local whole, rest, begun = floor(units / from), units % from, 0
  if rest > 0 then begun = min(to, floor(rest / from * to) + 4) end
  return min(whole * to + begun, EXACT_MAX)
end

-- READ: every counter is settled for this instant.
--
-- `floor(x / tick) <= t` is asked as `x < (t + 1) * tick`: a call of floor costs as much as the whole line.

local missing
for i = 1, keys do
  local kind, value = policy[4 * i - 3], values[i]
  if not value then
    if not missing then missing = {} end
    missing[#missing + 1] = KEYS[i]
  end
  if kind < FIXED_WINDOW then
    local held, at, hits, oldest_at, from = 0, -1, 0, -1, FIRST_PAIR
    if value then
      local tick, left_before, length = policy[4 * i], now_ms - policy[4 * i - 1], #value
      local its_tick, its_format, bytes = 0, 0, nil
      if length >= FIRST_PAIR - 1 and length <= LOG_BYTES_MAX then
        held, at, hits, its_tick, its_format = unpack_from(HEADER, value)
        bytes = PAIR_BYTES[its_format]
      end
      if not bytes or its_tick == 0 or hits == 0 or hits > held or (length + 1 - FIRST_PAIR) % bytes ~= 0
        or at * its_tick > INSTANT_MAX_MS then
        fault[i] = UNREADABLE
      elseif (at + 1) * its_tick <= left_before then
        held, at, hits, from = 0, -1, 0, length + 1
      else
        if its_format ~= kind and its_format % 2 == 0 and kind % 2 == 1 then
          -- Hits are never narrowed: the even formats have the wide ones.
          kind = kind + 1
          format[i] = kind
        end
        if its_tick ~= tick or its_format ~= kind then
          -- The rule changed its tick or pair format: the pairs are packed anew; see `Log::rewritten`. The newest
          -- comes last.
          local latest = max(floor(now_ms / tick), floor(at * its_tick / tick))
          latest = min(latest, floor(((at + 1) * its_tick - 1) / tick))
          local offsets, earliest = OFFSETS[its_format], latest + 1 - OFFSETS[kind]
          local packed, last_at, last_hits = {}, nil, 0
          held = 0
          for pair = FIRST_PAIR, length + 1, bytes do
            local pair_at, pair_hits = at, hits
            if pair <= length then
              local offset
              offset, pair_hits = unpack_from(PAIR[its_format], value, pair)
              pair_at = at - (at - offset) % offsets
            end
            pair_at = max(min(floor(((pair_at + 1) * its_tick - 1) / tick), latest), earliest)
            if (pair_at + 1) * tick > left_before then
              held = held + pair_hits
              if pair_at == last_at then
                last_hits = last_hits + pair_hits
              else
                if last_at then packed[#packed + 1] = pack(PAIR[kind], last_at % OFFSETS[kind], last_hits) end
                last_at, last_hits = pair_at, pair_hits
              end
            end
          end
          value = times('-', FIRST_PAIR - 1) .. table.concat(packed)
          values[i], length, at, hits, renewed[i] = value, #value, latest, last_hits, true
        end
        local packed, offsets = PAIR[kind], OFFSETS[kind]
        bytes, oldest_at = PAIR_BYTES[kind], at
        while from <= length do
          local offset, pair_hits = unpack_from(packed, value, from)
          local pair_at = at - (at - offset) % offsets
          if (pair_at + 1) * tick > left_before then
            oldest_at = pair_at
            break
          end
          held = held - pair_hits
          from = from + bytes
        end
        if held < hits then fault[i] = UNREADABLE end
      end
    end
    sum[i], newest[i], newest_hits[i], oldest[i], first[i] = held, at, hits, oldest_at, from
  elseif kind == FIXED_WINDOW then
    local number, hits = floor(now_ms / policy[4 * i - 1]), 0
    renewed[i] = true
    if value then
      if #value ~= 12 then
        fault[i] = UNREADABLE
      else
        local its_number, its_hits = unpack_from('<I6I6', value)
        if (its_number + 1) * policy[4 * i - 1] > 2 * INSTANT_MAX_MS then
          fault[i] = UNREADABLE
        elseif its_number >= number then
          number, hits, renewed[i] = its_number, its_hits, false
        end
      end
    end
    sum[i], newest[i] = hits, number
  elseif kind == REFERENCE_WINDOW then
    local hits = 0
    if value then
      -- As INCRBY takes it: no zero in front, and no more than 2^63 - 1.
      local is_number = value == '0' or string.find(value, '^[1-9]%d*$')
      if is_number and (#value < 19 or #value == 19 and value <= '9223372036854775807') then
        hits = min(tonumber(value), HITS_MAX)
      else
        fault[i] = UNREADABLE
      end
    end
    sum[i], newest[i] = hits, 0
  elseif kind == GATE then
    -- Without a value it begins with the policy's limit, which nobody governs and which goes nowhere.
    local mark, limit, written, instant, tokens, admitted, refusals = 1, policy[4 * i - 1], now_ms, now_ms, nil, 0, 0
    local toward, hold, decay = limit, 1, 1
    if value then
      mark, decay = 0, 0
      if #value == 64 then
        local generation
        mark, limit, toward, written, hold, decay, generation, instant, tokens, admitted, refusals
          = unpack_from('<I1I6I6I6I6I6I6I6I7I7I7', value)
      end
      if mark ~= 1 or decay == 0 or limit < 1 or limit > RATE_MAX or toward < 1 or toward > RATE_MAX
        or instant > INSTANT_MAX_MS or tokens > EXACT_MAX or admitted > EXACT_MAX or refusals > EXACT_MAX then
        fault[i] = UNREADABLE
        limit, tokens = 1, 0
      end
    end
    local under_way = now_ms - written - hold
    if under_way >= decay then
      limit = toward
    elseif under_way > 0 then
      limit = floor(limit + (toward - limit) * (under_way / decay))
    end
    local burst = max(limit * 1000, 1000000)
    local elapsed = min(max(now_ms - instant, 0), ceil(burst / limit))
    tokens = min((tokens or burst) + limit * elapsed, burst)
    renewed[i] = not value or floor(now_ms / RENEWED_MS) > floor(instant / RENEWED_MS)
    keep_until[i] = KEPT_MS + hold + decay
    if instant > now_ms + STEP_MS or instant < now_ms then instant = now_ms end
    sum[i], newest[i], newest_hits[i], oldest[i], rate[i] = tokens, instant, limit, admitted, refusals
  else
    local cost, units, instant = policy[4 * i - 1], 0, now_us
    keep_until[i], renewed[i] = 0, true
    if value then
      local its_instant, its_units, its_cost, keep = 0, 0, 0, 0
      if #value == 26 then its_instant, its_units, its_cost, keep = unpack_from('<I7I7I6I6', value) end
      if its_cost == 0 or its_instant > EXACT_MAX or its_units > EXACT_MAX or keep > 6 * INSTANT_MAX_MS then
        fault[i] = UNREADABLE
      else
        keep_until[i], renewed[i] = keep, its_cost ~= cost
        if its_cost ~= cost then its_units = converted(its_units, its_cost, cost) end
        if now_us > its_instant then its_units = its_units - (now_us - its_instant) * policy[4 * i - 2] end
        if its_units > 0 then
          units = its_units
          if its_instant > now_us then instant = its_instant end
        end
      end
    end
    sum[i], newest[i], newest_hits[i] = units, instant, cost
  end
end

if missing and call('EXISTS', unpack(missing)) > 0 then
  for i = 1, keys do
    if not values[i] and call('EXISTS', KEYS[i]) > 0 then fault[i] = WRONG_TYPE end
  end
end

-- DECIDE

-- Milliseconds until so many units have drained from bucket i at the rate of policy p.
local function drained_after(i, p, units)
  local drain = policy[4 * p - 2]
  if units == 0 then return 0 end
  if drain == 0 then return ceil(policy[4 * p - 1] / 1000) end
  return ceil((newest[i] - now_us + ceil(units / drain)) / 1000)
end

-- What counter i holds, in hits, and the milliseconds until it holds fewer.
local function standing(i, p)
  local kind, held = policy[4 * p - 3], sum[i]
  if kind == FIXED_WINDOW then return held, (newest[i] + 1) * policy[4 * p - 1] - now_ms end
  if kind == REFERENCE_WINDOW then return held, 0 end
  if held == 0 then return 0, 0 end
  if kind < FIXED_WINDOW then return held, (oldest[i] + 1) * policy[4 * i] + policy[4 * i - 1] - now_ms end
  local tokens = ceil(held / newest_hits[i])
  return tokens, drained_after(i, p, held - (tokens - 1) * newest_hits[i])
end

local charges = #ARGV[2] / 9
local charge = {unpack_from('<' .. times('I2I1I6', charges), ARGV[2])}
local answer = {}             -- two numbers per charge
local undo, undo_size = {}, 0 -- what a decision of several charges has to put back, eight values each
local begun, refused, quotas, quotas_over, broken = 1, false, 0, 0, nil
local gates, gated -- how many of the decision's charges are gates, and whether one of those refuses
for c = 1, charges do
  local p, flags, hits = charge[3 * c - 2], charge[3 * c - 1], charge[3 * c]
  local last, each, gives, only_over = false, false, false, false
  if flags == 16 then
    flags, last = 0, true
  else
    if flags >= 32 then flags, only_over = flags - 32, true end
    last = flags >= 16
    if last then flags = flags - 16 end
    if flags >= 8 then flags, each = flags - 8, true end
    if flags >= 4 then flags, gives = flags - 4, true end
  end
  local i = p
  if p > keys then i = policy[4 * policies + p - keys] end
  local kind, held = policy[4 * p - 3], sum[i]

  if only_over and not last and begun == c then
    -- Before anything is charged: is one of the decision over? Then the others only look.
    local any, d, over = false, c - 1, {}
    repeat
      d = d + 1
      local p, flags, hits = charge[3 * d - 2], charge[3 * d - 1] % 32, charge[3 * d]
      local j = p
      if p > keys then j = policy[4 * policies + p - keys] end
      local kind, held = policy[4 * p - 3], sum[j]
      if flags % 8 >= 4 or kind == GATE then
        over[d] = true
      elseif kind == TOKEN_BUCKET then
        local cost, burst = policy[4 * p - 1], policy[4 * p]
        over[d] = hits > burst or converted(held, newest_hits[j], cost) + hits * cost > burst * cost
        any = any or over[d]
      else
        over[d] = held + hits > policy[4 * p - 2]
        any = any or over[d]
      end
    until flags >= 16
    for e = c, d do
      if any and not over[e] then charge[3 * e] = 0 end
    end
    hits = charge[3 * c]
  end

  if not last or begun < c then
    undo[undo_size + 1], undo[undo_size + 2], undo[undo_size + 3] = i, held, newest[i]
    undo[undo_size + 4], undo[undo_size + 5] = newest_hits[i] or false, oldest[i] or false
    undo[undo_size + 6] = added[i] or false
    undo[undo_size + 7], undo[undo_size + 8] = past[i] or false, changed[i] or false
    undo_size = undo_size + 8
  end

  local verdict, charged, used, reset = 0, 0, 0, 0
  if fault[i] then
    broken = broken or fault[i]

  elseif kind < FIXED_WINDOW then
    local limit, tick = policy[4 * p - 2], policy[4 * i]
    if gives then
      if hits > 0 and held > 0 then
        -- The newest go first: those of this call, those of the newest tick, then pair after pair.
        charged, hits = 4, min(hits, held)
        held = held - hits
        if held == 0 then
          newest[i], newest_hits[i], oldest[i], added[i], past[i] = -1, 0, -1, 0, first[i]
        else
          if added[i] then
            local taken = min(hits, added[i])
            added[i], hits = added[i] - taken, hits - taken
          end
          local packed = format[i] or policy[4 * i - 3]
          local ending = past[i] or #(values[i] or '') + 1
          while hits > 0 and hits >= newest_hits[i] and ending > first[i] do
            hits, ending = hits - newest_hits[i], ending - PAIR_BYTES[packed]
            local offset, pair_hits = unpack_from(PAIR[packed], values[i], ending)
            newest[i], newest_hits[i] = newest[i] - (newest[i] - offset) % OFFSETS[packed], pair_hits
            past[i] = ending
          end
          newest_hits[i] = newest_hits[i] - hits
        end
        sum[i] = held
      end
    elseif held + hits <= limit then
      if hits > 0 then
        -- A clock that was set back adds to the newest tick.
        if now_ms < (newest[i] + 1) * tick then
          newest_hits[i] = newest_hits[i] + hits
        else
          added[i] = (added[i] or 0) + hits
          if held == 0 then oldest[i] = (now_ms - now_ms % tick) / tick end
        end
        held, charged = held + hits, 4
        sum[i] = held
      end
    else
      verdict = 1
      -- When so many hits have left that this charge fits, or all, if it never will.
      local needed = held + hits - limit
      if hits > limit then verdict, needed = 2, held end
      local at = oldest[i]
      if verdict == 1 and first[i] < (past[i] or #(values[i] or '') + 1) then
        local packed, value, pair = format[i] or policy[4 * i - 3], values[i], first[i]
        local ending = past[i] or #value + 1
        while needed > 0 and pair < ending do
          local offset, pair_hits = unpack_from(PAIR[packed], value, pair)
          at, needed = newest[i] - (newest[i] - offset) % OFFSETS[packed], needed - pair_hits
          pair = pair + PAIR_BYTES[packed]
        end
      end
      if needed > 0 then
        at = newest[i]
        if (added[i] or 0) > 0 and (verdict == 2 or needed > newest_hits[i]) then at = floor(now_ms / tick) end
      end
      reset = held > 0 and (at + 1) * tick + policy[4 * i - 1] - now_ms or 0
    end
    used = held
    if verdict == 0 and held > 0 then reset = (oldest[i] + 1) * tick + policy[4 * i - 1] - now_ms end

  elseif kind == FIXED_WINDOW then
    local limit, window = policy[4 * p - 2], policy[4 * p - 1]
    if gives then
      if hits > 0 and held > 0 then
        held, charged = max(held - hits, 0), 4
        -- An empty counter begins anew, also if the clock has gone back meanwhile.
        if held == 0 then newest[i], renewed[i] = floor(now_ms / window), true end
      end
    else
      if held + hits > limit then verdict = hits > limit and 2 or 1 end
      -- The reference's way: a fixed window that is charged on its own grows even when it is over.
      if hits > 0 and (verdict == 0 or each) then held, charged = min(held + hits, HITS_MAX), 4 end
    end
    sum[i], used, reset = held, held, (newest[i] + 1) * window - now_ms

  elseif kind == REFERENCE_WINDOW then
    if gives then
      hits = -min(hits, held)
    elseif held + hits > policy[4 * p - 2] then
      verdict = 1
    end
    -- It grows even when it is over, and there is an end to what it counts.
    if hits < 0 or hits > 0 and held < HITS_MAX and (verdict == 0 or each) then
      hits = min(hits, HITS_MAX - held)
      held, added[i], charged = held + hits, (added[i] or 0) + hits, 4
    end
    sum[i], used = held, held

  elseif kind == GATE then
    -- Looked at now, charged when the decision is known.
    used, gates = newest_hits[i], (gates or 0) + 1
    if gives then hits, charge[3 * c] = 0, 0 end
    local missing = min(hits * 1000000, max(used * 1000, 1000000)) - held
    if missing > 0 and policy[4 * p - 2] == 0 then
      verdict, reset, gated = 1, ceil(missing / used), gated or flags == 0
    end

  else
    local cost, burst = policy[4 * p - 1], policy[4 * p]
    if newest_hits[i] ~= cost then
      held = converted(held, newest_hits[i], cost)
      newest_hits[i], renewed[i] = cost, true
    end
    local units = hits * cost
    if gives then
      if hits > 0 and held > 0 then held, charged = max(held - units, 0), 4 end
      if held == 0 then newest[i] = now_us end
    elseif hits > burst then
      verdict, reset = 2, drained_after(i, p, held)
    elseif held + units > burst * cost then
      verdict, reset = 1, drained_after(i, p, held + units - burst * cost)
    elseif hits > 0 then
      held, charged = held + units, 4
    end
    sum[i], rate[i] = held, p
    if verdict == 0 then used, reset = standing(i, p) else used = ceil(held / cost) end
  end

  if verdict > 0 and flags == 0 and kind ~= GATE then refused = true end
  if flags == 1 and kind ~= GATE then
    quotas = quotas + 1
    if verdict > 0 then quotas_over = quotas_over + 1 end
  end
  if charged > 0 then changed[i] = true end
  answer[2 * c - 1], answer[2 * c] = used * 16 + verdict + charged, reset

  if last then
    if quotas > 0 and quotas == quotas_over then refused = true end
    local by_gates_alone = gated and not refused
    refused = refused or gated
    -- One charge alone that was over has changed nothing and has its answer already.
    if broken or (refused and not each and begun < c) then
      while undo_size > 0 do
        undo_size = undo_size - 8
        i = undo[undo_size + 1]
        sum[i], newest[i], newest_hits[i] = undo[undo_size + 2], undo[undo_size + 3], undo[undo_size + 4]
        oldest[i], added[i] = undo[undo_size + 5], undo[undo_size + 6]
        past[i], changed[i] = undo[undo_size + 7], undo[undo_size + 8]
      end
      for d = begun, c do
        local member = charge[3 * d - 2]
        if member > keys then member = policy[4 * policies + member - keys] end
        if broken then
          answer[2 * d - 1], answer[2 * d] = broken, 0
        elseif policy[4 * member - 3] ~= GATE then
          verdict = answer[2 * d - 1] % 4
          used, reset = standing(member, member)
          answer[2 * d - 1] = used * 16 + verdict
          if verdict == 0 then answer[2 * d] = reset end
        end
      end
    end
    if gates and not broken then
      for d = c - gates + 1, c do
        p, hits = charge[3 * d - 2], charge[3 * d]
        i = p
        if p > keys then i = policy[4 * policies + p - keys] end
        if refused then
          if by_gates_alone and answer[2 * d - 1] % 4 > 0 then
            rate[i], changed[i] = min(rate[i] + hits, EXACT_MAX), true
          end
        elseif hits > 0 then
          if policy[4 * p - 2] == 0 then
            sum[i] = max(sum[i] - min(hits * 1000000, max(newest_hits[i] * 1000, 1000000)), 0)
          end
          oldest[i], changed[i] = min(oldest[i] + hits, EXACT_MAX), true
          answer[2 * d - 1] = answer[2 * d - 1] + 4
        end
        if answer[2 * d - 1] % 4 == 0 then
          answer[2 * d] = ceil((max(newest_hits[i] * 1000, 1000000) - sum[i]) / newest_hits[i])
        end
      end
    end
    begun, refused, quotas, quotas_over, broken, undo_size = c + 1, false, 0, 0, nil, 0
    gates, gated = nil, false
  end
end

-- WRITE

for i = 1, keys do
  if changed[i] then
    local key, kind, held = KEYS[i], policy[4 * i - 3], sum[i]
    if kind == GATE then
      local bucket = pack('<I6I7I7I7', newest[i], held, oldest[i], rate[i])
      if renewed[i] then
        local limit = policy[4 * i - 1]
        local governed = values[i] and cut(values[i], 1, 37) or pack('<I1I6I6I6I6I6I6', 1, limit, limit, now_ms, 1, 1, 0)
        call('SET', key, governed .. bucket, 'PX', text('%.0f', keep_until[i] + longer_ms))
      else
        call('SETRANGE', key, '37', bucket)
      end
    elseif kind == REFERENCE_WINDOW then
      call('INCRBY', key, text('%.0f', added[i]))
      call('EXPIRE', key, text('%.0f', policy[4 * i - 1]))
    elseif held == 0 then
      call('DEL', key)
    elseif kind < FIXED_WINDOW then
      local value, at, hits = values[i], newest[i], added[i] or 0
      local ending = past[i] or #(value or '') + 1
      if hits == 0 and not renewed[i] and first[i] == FIRST_PAIR and ending == #value + 1 then
        call('SETRANGE', key, '0', pack('<I4I6I4', held, at, newest_hits[i]))
      else
        local window, tick, packed = policy[4 * i - 1], policy[4 * i], format[i] or kind
        -- Joined in one go: Redis's Lua hashes every byte of every string that it makes.
        local older, newer, expires = '', '', renewed[i]
        if first[i] < ending then older = cut(value, first[i], ending - 1) end
        if hits == 0 then
          hits = newest_hits[i]
        else
          local begun = now_ms - now_ms % tick
          if newest_hits[i] == 0 then
            expires, packed = true, kind
          else
            newer = pack(PAIR[packed], at % OFFSETS[packed], newest_hits[i])
            expires = expires or begun - at * tick > begun % window
          end
          at = begun / tick
        end
        value = pack(HEADER, held, at, hits, tick, packed) .. older .. newer
        if expires then
          local ahead = max(at * tick - now_ms, 0)
          call('SET', key, value, 'PX', text('%.0f', 2 * window + 2 * tick + ahead + longer_ms))
        else
          call('SET', key, value, 'KEEPTTL')
        end
      end
    elseif kind == FIXED_WINDOW then
      if renewed[i] then
        local left = (newest[i] + 1) * policy[4 * i - 1] - now_ms
        call('SET', key, pack('<I6I6', newest[i], held), 'PX', text('%.0f', left + longer_ms))
      else
        call('SETRANGE', key, '6', pack('<I6', held))
      end
    else
      local left = drained_after(i, rate[i], held)
      if now_ms + left > keep_until[i] then
        local value = pack('<I7I7I6I6', newest[i], held, newest_hits[i], now_ms + 2 * left)
        call('SET', key, value, 'PX', text('%.0f', 2 * left + longer_ms))
      elseif renewed[i] then
        local value = pack('<I7I7I6I6', newest[i], held, newest_hits[i], keep_until[i])
        call('SET', key, value, 'KEEPTTL')
      else
        call('SETRANGE', key, '0', pack('<I7I7', newest[i], held))
      end
    end
  end
end

return pack('<' .. times('I7I6', charges), unpack(answer))
