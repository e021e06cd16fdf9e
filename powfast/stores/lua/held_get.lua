-- Return an answer; with a time it is paid, and kept at least until then.
local ended, till = held_until(), tonumber(ARGV[6])
if not ended then return reply('') end
if till then
  redis.call('HSET', sizes, name, string.format('%.0f paid', (size_of(name))))
  if till > ended then
    redis.call('ZREM', order, place(name, ended))
    add(name, till)
  end
end
return reply(redis.call('HGET', answers, name) or '')
