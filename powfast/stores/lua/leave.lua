local run, outcome = ARGV[5], ARGV[6]
local own = read_own()
local request = read_request(own)
local is_due = request and request.phase == DUE
if not (is_due or request and request.phase == RUNNING) or request.run ~= run then return end

local function keep_moment()  -- its price stays, and with it what of it was for the opening
  uncount(own, request.surcharged)
  local kept = min(request.surcharge, left_of_opening(own))
  own.surcharged = own.surcharged + kept
  own.balance = own.balance + (request.surcharge - kept)  -- others have paid the rest meanwhile
end

if outcome == 'FREE' then
  own.balance = own.balance + (is_due and request.price or request.authorized)
  uncount(own, request.surcharged)
  pay_off(own, request)
elseif outcome == 'UNPAID' and is_due then
  own.balance = own.balance + (request.price - request.authorized)
  keep_moment()
elseif outcome == 'UNPAID' and request.tag == '' then
  own.balance = own.balance + (request.authorized - request.price)
  keep_moment()
end
write_account(KEYS[1], own)
delete_request()
