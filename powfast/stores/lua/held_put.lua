-- Keep an answer where there is room for it; '1' where it is kept.
local size, max_bytes, answer_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local evict_at_once, answer = tonumber(ARGV[9]), ARGV[10]

local function has_room()
  local known = redis.call('ZSCORE', shares, account)
  local mine = tonumber(known or 0)
  local sharing = redis.call('ZCARD', shares) + (known and 0 or 1)
  if mine > max_bytes - total and mine > max_bytes / sharing / 2 then return false end
  for _ = 1, evict_at_once do
    if size <= max_bytes - total then return true end
    local largest = redis.call('ZREVRANGE', shares, 0, 0)[1]
    local first = redis.call('ZRANGEBYLEX', order, '[' .. (largest or ''), '+', 'LIMIT', 0, 1)[1]
    if not first then return false end  -- only where Redis has dropped a key of its own accord
    drop(string.sub(first, 1, 32) .. string.sub(first, 48), tonumber(string.sub(first, 33, 47)))
    evicted = evicted + 1
  end
  return size <= max_bytes - total
end

local ended = held_until()
local paid = ended and drop(name, ended)
if size > answer_bytes or not has_room() then return reply('') end
add(name, ended or now + lifetime)
redis.call('HSET', sizes, name, string.format('%.0f', size) .. (paid and ' paid' or ''))
redis.call('HSET', answers, name, answer)
count(name, size)
return reply('1')
