local run, evidence, tag = ARGV[5], ARGV[6], ARGV[7]
local function added(at)  -- to the sketch of the account or the group, or nil
  return ARGV[at] and ARGV[at] ~= ''
    and {evidence = ARGV[at], vectors = ARGV[at + 1], version = ARGV[at + 2]} or nil
end
local own, group = read_own(), read_group()
local known = read_request(own)
local is_mine = known and known.phase == RUNNING and known.run == run
local request = is_mine and known
  or {authorized = 0, covered = 0, settled = 0, counted = 0, price = 0, surcharge = 0,
    surcharged = 0, tag = ''}

local function reply(due, price, heat, surcharge)
  return pack('<ddddd', due, price, own.balance, heat or 0, surcharge or 0)
end

if known and known.phase == DUE and known.run == run and known.tag == tag then  -- sent twice
  write_account(KEYS[1], own)
  write_request(known, own)
  return reply(known.due, known.price, 0, known.surcharged)
end
if evidence == '' then
  if is_mine then
    own.balance = own.balance + request.authorized
    pay_off(own, request)
    write_account(KEYS[1], own)
    delete_request()
  end
  return reply(0, 0)
end
local spent = read_spent()
local function spend(price)  -- its solution has paid for this run, whose answer is read
  local record = {reruns = reruns, price = price, run = run, tag = tag}
  redis.call('SET', KEYS[3], packed_spent(record), 'KEEPTTL')
end
if spent and not is_mine and spent.run == run and spent.tag == tag then  -- sent twice
  write_account(KEYS[1], own)
  return reply(0, spent.price)
end
if request.tag == tag then  -- it has paid for this very evidence
  if spent and spent.run == run then spend(spent.price) end
  pay_off(own, request)
  write_account(KEYS[1], own)
  delete_request()
  return reply(0, request.price)
end

local price, surcharged, heat =
  charged_for(own, group, request.surcharged, request.settled > 0, evidence, added(8), added(11))
own.balance = own.balance + request.authorized
local debit = max(0, price - request.settled)
local due = max(0, debit - max(request.covered, max(0, own.balance)))
local waits = due > 0 and (is_mine or not known)
own.balance = own.balance - debit
if due == 0 then
  if spent and (spent.run == '' or spent.run == run) then spend(debit) end
  pay_off(own, request)
  if is_mine then delete_request() end
  open_if_paid(own)
else
  if spent and spent.run == run and request.settled > 0 then
    redis.call('SET', KEYS[3], '', 'KEEPTTL')  -- what it has paid counts for this run now
  end
  count_run(own, request)
  if waits then
    local is_first = request.tag == ''
    local moment = is_first and request.price or request.authorized
    local moments = is_first and request.surcharge or request.surcharged
    write_request({phase = DUE, run = run, authorized = moment, counted = request.counted,
      price = debit, due = due, surcharge = moments, surcharged = surcharged, tag = tag}, own)
  end
end
write_account(KEYS[1], own)
if group then write_account(KEYS[5], group) end
return reply(due, price, heat, waits and surcharged or 0)
