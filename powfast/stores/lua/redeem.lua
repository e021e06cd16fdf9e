local expires, work, is_bound = unpack(doubles(ARGV[5]))

local own, spent = read_own(), read_spent()
local request = is_bound == 1 and read_request(own) or nil

local function reply(verdict, run, due)
  return {verdict, run or '', pack('<dd', due or 0, verdict ~= 'SPENT' and own.balance or 0)}
end

if now >= expires then return reply('SPENT') end
if spent then return reply(spent.run == '' and 'SPENT' or 'AGAIN', spent.run) end

local function spend(record)
  redis.call('SET', KEYS[3], record, 'PX', math.ceil(1000 * (expires - now + clock_skew)))
  write_account(KEYS[1], own)
end

if is_bound == 1 and (not request or request.phase == PREPAID) then  -- for this request alone
  spend('')
  write_request({phase = PREPAID, covered = (request and request.covered or 0) + work}, own)
  return reply('CREDITED')
end
credit(own, work)
if not request or request.phase ~= DUE then
  spend('')
  if request then write_request(request, own) end
  return reply('CREDITED')
end
request.due = request.due - work
if own.balance < 0 and owed(own, request) > 0 then
  spend('')
  write_request(request, own)
  return reply('OWED', '', owed(own, request))
end
pay_off(own, request)
spend(packed_spent({reruns = 0, price = request.price, run = request.run, tag = request.tag}))
delete_request()
return reply('PAID', request.run)
