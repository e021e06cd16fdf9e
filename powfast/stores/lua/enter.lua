local run, is_rerun, is_unread = ARGV[5], ARGV[7] ~= '', ARGV[7] == 'unread'
local unpaid_runs, refuse_above, busy, queries = unpack(doubles(ARGV[6]))
local own, group, spent = read_own(), read_group(), read_spent()
local request = read_request(own)

local function reply(verdict, work, run)
  local said = {verdict, pack('<d', work or 0), run or ''}
  if run and account_evidence == 1 then
    said[4], said[5] = packed_sketch(own), group and packed_sketch(group) or ''
  end
  return said
end

local function begin(request)
  request.phase, request.run, request.busy_until = RUNNING, run, now + busy
  write_account(KEYS[1], own)
  write_request(request, own)
end

forgive(own)
if request and request.phase == RUNNING and request.run == run then  -- it was sent twice
  write_account(KEYS[1], own)
  write_request(request, own)
  return reply('RUN', 0, run)
end
if request and request.phase == RUNNING and now < request.busy_until then
  return reply('BUSY', request.busy_until - now)
end
local prepaid = request and request.phase == PREPAID and request.covered or 0
if is_rerun then
  local is_read = not spent or spent.run == '' or spent.reruns >= reruns
  if is_read or (not is_unread and spent.reruns == 0) then return reply('SPENT') end
  credit(own, prepaid)
  begin({price = spent.price, settled = spent.price, tag = spent.tag})
  spent.reruns, spent.run = spent.reruns + 1, run  -- of the two runs, one answer is read
  redis.call('SET', KEYS[3], packed_spent(spent), 'KEEPTTL')
  return reply('RUN', 0, run)
end
if request and request.phase == DUE then
  if own.balance >= 0 then
    local held, paid = request.run, request.price
    begin({authorized = paid, covered = paid, price = paid, surcharge = request.surcharge,
      surcharged = request.surcharged, tag = request.tag})
    return reply('COVERED', own.balance, held)
  end
  write_account(KEYS[1], own)
  write_request(request, own)
  return reply('OWED', owed(own, request))
end

local function refuse(verdict, work)  -- names that pay nothing leave nothing
  if own.is_there then write_account(KEYS[1], own) end
  if request then
    if request.phase == PREPAID then request.covered = prepaid end
    write_request(request, own)
  end
  return reply(verdict, work)
end

local each, more = price_now(own), 0
if group then each = max(each, price_now(group)) end
local floor = each * queries
local is_refused = floor > refuse_above
if is_new(own) then
  more = min(surcharge(wealth(read_pool()), each, queries), left_of_opening(own))
  floor = floor + more
end
if own.opened == 0 and probation == 0 then
  if own.balance + prepaid < opening then
    return reply('OPENING', opening + floor - (own.balance + prepaid))
  end
  local drawn = min(prepaid, opening)
  prepaid = prepaid - drawn
  own.balance, own.opened = own.balance - (opening - drawn), 1
end
if is_refused then return refuse('TOO_HIGH', each * queries) end
local funds = prepaid + max(0, own.balance)
if own.unpaid >= unpaid_runs and funds < floor then
  return refuse('DEBT', floor - (is_shared == 0 and own.balance + prepaid or prepaid))
end
local authorized = max(floor, prepaid)
local covered = min(funds, authorized)
own.balance = own.balance - (authorized - prepaid)
request = {authorized = authorized, covered = covered, price = floor, surcharge = more}
if covered < floor then count_run(own, request) end
begin(request)
return reply('RUN', 0, run)
