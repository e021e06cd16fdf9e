-- What the operations of the ledger share, put in front of each: tests/serving/ledger_oracle.py is
-- the same in Python, step by step and so to the last bit.
--
-- KEYS  the account, the request, the challenge, the pool of newcomers and, where there is one, the
--       group
-- ARGV  the rules, the bets, the volume schedule, the moment; then what the operation is given.
--       Numbers come and go as packed doubles: infinity survives.

local unpack_from, pack, max, min = struct.unpack, struct.pack, math.max, math.min

local function doubles(text)
  local values = {unpack_from('<' .. string.rep('d', #text / 8), text)}
  table.remove(values)  -- where reading stopped
  return values
end

local base, most, opening, cap, credit_limit, reruns, clock_skew, terms, none_left, ln2,
  probation, pool_keeps, pool_share, honest_mean, account_evidence = unpack(doubles(ARGV[1]))
local bets, volume = doubles(ARGV[2]), doubles(ARGV[3])
local now, remember, half_life, group_half_life, is_shared = unpack(doubles(ARGV[4]))

local function require_whole(holds)
  if not holds then error('a record of the ledger is damaged', 0) end
end

-- Accounts, groups and pools: the state's eight doubles, balance, unpaid, cleared, opened,
-- surcharged, charged, since. Behind them a sketch: the second e-process (eight doubles and the
-- capital that it began with, 0 where it has not), how many sums, the version, sums and fixed, which
-- are floats.

local RECORD_BYTES, SKETCH_DOUBLES, CAPITAL = 8 * (#bets + 8), #bets + 3, #bets + 2
local SKETCH_HEAD = 8 * SKETCH_DOUBLES + 8

local function halved(half_lives)
  if half_lives >= none_left then return 0 end
  local whole = math.floor(half_lives)
  local y, factor = (half_lives - whole) * ln2, 1
  for k = terms, 1, -1 do factor = 1 - y * factor / k end
  return math.ldexp(factor, -whole)
end

local function age(record, half_life, is_shared)
  local left = halved(max(0, now - record.charged) / half_life)
  for k = 2, #record.state do record.state[k] = record.state[k] * left end
  for k = 2, #bets + 1 do record.second[k] = record.second[k] * left end
  if is_shared == 1 and record.unpaid < math.huge then record.unpaid = record.unpaid * left end
end

local function read_sketch(record, text)
  record.second = {}
  for k = 1, CAPITAL do record.second[k] = 0 end
  if text == '' then return end
  local count = (#text - SKETCH_HEAD) / 8
  require_whole(count >= 1 and count % 1 == 0)
  local second = doubles(string.sub(text, 1, 8 * SKETCH_DOUBLES))
  require_whole(table.remove(second) == count and second[1] % 1 == 0)
  for k, value in ipairs(second) do
    require_whole(value >= 0 and value <= (k == CAPITAL and 1 or cap))
  end
  if account_evidence == 0 then return end  -- it is dropped
  record.second, record.count = second, count
  record.version = string.sub(text, 8 * SKETCH_DOUBLES + 1, SKETCH_HEAD)
  record.vectors = string.sub(text, SKETCH_HEAD + 1)
end

local function packed_sketch(record)
  if not record.version then return '' end
  local head = '<' .. string.rep('d', SKETCH_DOUBLES)
  local second = {unpack(record.second)}
  table.insert(second, record.count)
  return pack(head, unpack(second)) .. record.version .. record.vectors
end

local function read_account(key, half_life, is_shared)
  local text = redis.call('GET', key)
  local record = {is_there = text, balance = 0, unpaid = 0, cleared = 0, opened = 0,
    surcharged = 0, charged = now, since = now}
  record.state = {0}
  for k = 1, #bets do record.state[k + 1] = 0 end
  if text then
    require_whole(#text >= RECORD_BYTES)
    local values = doubles(string.sub(text, 1, RECORD_BYTES))
    for k, value in ipairs(values) do
      require_whole(value == value and (k > #bets + 1 or value >= 0 and value <= cap))
    end
    record.since, record.charged = table.remove(values), table.remove(values)
    record.surcharged, record.opened = table.remove(values), table.remove(values)
    record.cleared, record.unpaid = table.remove(values), table.remove(values)
    record.balance = table.remove(values)
    record.state = values
    require_whole(record.state[1] % 1 == 0 and record.unpaid >= 0 and record.cleared >= 0)
    require_whole(record.surcharged >= 0)
    require_whole(record.opened == 0 or record.opened == 1)
  end
  read_sketch(record, text and string.sub(text, RECORD_BYTES + 1) or '')
  if half_life > 0 then age(record, half_life, is_shared) end
  return record
end

local function packed_account(record)
  local format = '<' .. string.rep('d', #record.state + 7)
  local values = {unpack(record.state)}
  for _, name in ipairs(
    {'balance', 'unpaid', 'cleared', 'opened', 'surcharged', 'charged', 'since'}
  ) do
    table.insert(values, record[name])
  end
  return pack(format, unpack(values)) .. packed_sketch(record)
end

local function write_account(key, record)
  record.charged = max(record.charged, now)
  redis.call('SET', key, packed_account(record))
end

local function read_own()
  return read_account(KEYS[1], half_life, is_shared)
end

local function read_group()
  return KEYS[5] and read_account(KEYS[5], group_half_life, 0)
end

local function read_pool()
  return read_account(KEYS[4], 0, 0)
end

-- Prices.

local function price(wealth, query)
  local multiple = 1
  for at = 1, #volume, 2 do
    if query >= volume[at] then multiple = volume[at + 1] end
  end
  return min(base * max(1, wealth) * multiple, most)
end

local function mean_of(state)
  local total = 0
  for k = 2, #bets + 1 do total = total + state[k] end
  return total / #bets
end

local function wealth(record)  -- of both e-processes, where the second has begun
  local mean, second = mean_of(record.state), record.second
  return second[CAPITAL] > 0 and (mean + mean_of(second)) / 2 or mean
end

local function price_now(record)
  return price(wealth(record), record.state[1] + 1)
end

local function bet(state, capital, evidence)  -- returns the mean wealth after one more query
  local bets, count, gain, query = bets, #bets, evidence - 1, state[1] + 1
  local restart, total = capital / (query * (query + 1)), 0
  for k = 1, count do
    local wealth = (state[k + 1] + restart) * (1 + bets[k] * gain)
    if not (wealth < cap) then wealth = cap end
    state[k + 1] = wealth
    total = total + wealth
  end
  state[1] = query
  return total / count
end

-- Returns the sum of its queries' prices. own: their account evidence, or nil.
local function advance(record, evidence, own)
  local state, second, owed = record.state, record.second, 0
  local other = second[CAPITAL] > 0 and mean_of(second)
  for at = 1, #evidence, 8 do
    local mean = bet(state, 1, unpack_from('<d', evidence, at))
    if own then other = bet(second, second[CAPITAL], unpack_from('<d', own, at)) end
    owed = owed + price(other and (mean + other) / 2 or mean, state[1])
  end
  return owed
end

-- Sketches: what a request adds to one is account evidence, sums and fixed, and the version.

local function left_of(state, capital)
  return min(1, mean_of(state) + capital / (state[1] + 1))
end

local function is_another(record, added)
  return record.version ~= added.version or 2 * #record.vectors ~= #added.vectors
end

local function begin(record, added)  -- the second e-process, where it has not, or anew
  local second = record.second
  if is_another(record, added) then
    second[CAPITAL] = left_of(second, second[CAPITAL])
    for k = 1, #bets + 1 do second[k] = 0 end
  end
  if second[CAPITAL] == 0 then second[CAPITAL] = left_of(record.state, 1) end
end

local function add(record, added)
  local more = doubles(added.vectors)
  local count = #more / 2
  if is_another(record, added) then
    record.version, record.count = added.version, count
    record.vectors = string.rep('\0', #added.vectors / 2)
  end
  local values = {unpack_from('<' .. string.rep('f', 2 * count), record.vectors)}
  table.remove(values)  -- where reading stopped
  for k = 1, count do values[k] = values[k] + more[k] end
  if more[count + 1] > values[count + 1] then
    for k = count + 1, 2 * count do values[k] = more[k] end
  end
  for _, value in ipairs(values) do require_whole(value - value == 0) end
  record.vectors = pack('<' .. string.rep('f', 2 * count), unpack(values))
end

-- Newcomers, who share a price until what they have paid beyond their own is the opening.

local function left_of_opening(record)
  return max(0, opening - record.surcharged)
end

local function open_if_paid(record)
  if probation == 1 and record.balance >= 0 and left_of_opening(record) == 0 then
    record.opened = 1
  end
end

local function is_new(record)
  return probation == 1 and record.opened == 0
end

local function surcharge(heat, price, queries)
  return queries * max(0, min(base * heat, opening) - price)
end

local function uncount(record, surcharged)
  if surcharged > 0 then
    record.surcharged, record.opened = max(0, record.surcharged - surcharged), 0
  end
end

local function heat_up(pool, gain)  -- by one query; returns its heat
  local state, most, total = pool.state, #bets * (opening / base), 0
  for k = 1, #bets do
    local heat = pool_keeps * (state[k + 1] + pool_share) * (1 + bets[k] * gain)
    if heat > most then heat = most end
    state[k + 1] = heat
    total = total + heat
  end
  state[1] = state[1] + 1
  return total / #bets
end

-- Returns what queries cost, the higher of the two's prices, what of it is for the opening, and
-- where that may be so what a newcomer pays by then, in base prices; else 0.
-- mine, ours: what they add to the two's sketches, or nil.
local function charged_for(own, group, before, is_paid, evidence, mine, ours)
  uncount(own, before)
  local owed, more, heat, own_evidence = 0, 0, 0, mine and mine.evidence
  if mine then begin(own, mine) end
  if is_new(own) then
    local pool, left = read_pool(), is_paid and 0 or left_of_opening(own)
    for at = 1, #evidence, 8 do
      local query = string.sub(evidence, at, at + 7)
      local theirs = own_evidence and string.sub(own_evidence, at, at + 7)
      local price = advance(own, query, theirs)
      heat = heat_up(pool, unpack_from('<d', query) / honest_mean - 1)
      owed = owed + price
      more = more + min(surcharge(heat, price, 1), max(0, left - more))
    end
    heat = max(1, min(heat, opening / base))
    write_account(KEYS[4], pool)
  else
    owed = advance(own, evidence, own_evidence)
  end
  if mine then add(own, mine) end
  local together = 0
  if group then
    if ours then begin(group, ours) end
    together = advance(group, evidence, ours and ours.evidence)
    if ours then add(group, ours) end
  end
  local price = max(owed + more, together)
  local surcharged = min(more, price - max(owed, together))
  own.surcharged = own.surcharged + surcharged
  return price, surcharged, heat
end

local function owed(own, request)  -- everything, where answers were read that are not paid
  return own.unpaid < math.huge and request.due or -own.balance
end

local function is_counted(record, request)  -- those from before a forgiveness are not
  return request.counted == record.cleared + 1
end

local function count_run(record, request)
  if not is_counted(record, request) then record.unpaid = record.unpaid + 1 end
  request.counted = record.cleared + 1
end

local function pay_off(record, request)
  if is_counted(record, request) then record.unpaid = max(0, record.unpaid - 1) end
end

local function forgive(record)  -- everything that was charged is paid
  if record.balance >= 0 then record.unpaid, record.cleared = 0, record.cleared + 1 end
  open_if_paid(record)
end

local function credit(record, work)
  local raised = min(record.balance + work, max(credit_limit, work))
  record.balance = max(record.balance, raised)
  forgive(record)
end

-- Requests: phase, run, ten doubles, and the tag of their evidence where they have one.

local RUNNING, DUE, PREPAID, REPORTED = 'r', 'd', 'p', 'e'

local function read_request(own)  -- of an account that was forgotten, no request is known either
  local text = own.is_there and redis.call('GET', KEYS[2])
  if not text then return nil end
  require_whole((#text == 97 or #text == 105) and string.find(text, '^[rdpe]'))
  local numbers = doubles(string.sub(text, 18, 97))
  for _, value in ipairs(numbers) do require_whole(value == value) end
  local request = {phase = string.sub(text, 1, 1), run = string.sub(text, 2, 17)}
  request.authorized, request.covered, request.settled, request.counted, request.price,
    request.due, request.surcharge, request.surcharged, request.busy_until, request.since =
    unpack(numbers)
  request.tag = string.sub(text, 98)
  return request.since == own.since and request or nil
end

local function write_request(request, own)
  local record = pack('<c1c16dddddddddd', request.phase, request.run or string.rep('\0', 16),
    request.authorized or 0, request.covered or 0, request.settled or 0, request.counted or 0,
    request.price or 0, request.due or 0, request.surcharge or 0, request.surcharged or 0,
    request.busy_until or 0, own.since)
  redis.call('SET', KEYS[2], record .. (request.tag or ''), 'PX', remember)
end

local function delete_request()
  redis.call('DEL', KEYS[2])
end

-- Spent challenges: reruns, price, run and tag of the request each has paid; empty without one.

local function read_spent()
  local text = redis.call('GET', KEYS[3])
  if not text or text == '' then return text and {run = ''} end
  require_whole(#text == 33)
  local spent = {}
  spent.reruns, spent.price, spent.run, spent.tag = unpack_from('<Bdc16c8', text)
  require_whole(spent.price == spent.price)
  return spent
end

local function packed_spent(spent)
  return pack('<Bdc16c8', spent.reruns, spent.price, spent.run, spent.tag)
end
