local evidence, paid = ARGV[5], unpack(doubles(ARGV[6]))
local own, group = read_own(), read_group()
if read_request(own) then return end
local price = charged_for(own, group, 0, false, evidence)
own.balance = own.balance - max(0, price - paid)
if price > paid and own.balance < 0 and is_shared == 0 then own.unpaid = math.huge end
write_request({phase = REPORTED}, own)
write_account(KEYS[1], own)
if group then write_account(KEYS[5], group) end
