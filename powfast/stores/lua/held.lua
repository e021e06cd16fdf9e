-- What begins every script of the held answers; what they do is said in powfast/stores/held.py.
--
-- An answer's name is its account's (SHA-256, 32 bytes) and its run's (16 bytes). KEYS:
--   ends     sorted set: names by when they end, in milliseconds
--   order    sorted set, all scores 0: account, end in 15 digits, run; so by account, then by end
--   shares   sorted set: accounts by the bytes they hold
--   sizes    hash: of each name its bytes, and "paid" once it is; of all together, under ""
--   answers  hash: of each name the answer
local ends, order, shares, sizes, answers = unpack(KEYS)
local now, account, run, lifetime = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local name = account .. run
local abandoned, evicted = 0, 0

local function size_of(each)
  local size, paid = string.match(redis.call('HGET', sizes, each) or '0', '^(%d+)(.*)$')
  return tonumber(size), paid ~= ''
end
local total = size_of('')
-- where Redis has no memory left this fails, before anything has changed
redis.call('HSET', sizes, '', string.format('%.0f', total))

local function count(each, bytes)
  local whose = string.sub(each, 1, 32)
  if tonumber(redis.call('ZINCRBY', shares, bytes, whose)) <= 0 then
    redis.call('ZREM', shares, whose)
  end
  total = math.max(total + bytes, 0)
end
local function place(each, ended)
  return string.sub(each, 1, 32) .. string.format('%015.0f', ended) .. string.sub(each, 33)
end
local function add(each, ended)
  redis.call('ZADD', ends, string.format('%.0f', ended), each)
  redis.call('ZADD', order, 0, place(each, ended))
end
-- whether it had been paid
local function drop(each, ended)
  local size, paid = size_of(each)
  redis.call('ZREM', ends, each)
  redis.call('ZREM', order, place(each, ended))
  redis.call('HDEL', sizes, each)
  redis.call('HDEL', answers, each)
  count(each, -size)
  return paid
end
local function give_up(each, ended)
  if not drop(each, ended) then abandoned = abandoned + 1 end
end
-- when the answer of this call ends; nil: it is not held
local function held_until()
  local ended = tonumber(redis.call('ZSCORE', ends, name))
  if ended and ended <= now then
    give_up(name, ended)
    return nil
  end
  return ended
end
local function reply(value)
  local last = redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2]
  if not last then
    redis.call('UNLINK', unpack(KEYS))
    return {value, abandoned, evicted, 0, 0}
  end
  redis.call('HSET', sizes, '', string.format('%.0f', total))
  -- a lifetime longer than any answer, so that whoever comes by then counts it
  local left = string.format('%.0f', math.max(tonumber(last) - now, 0) + lifetime)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, left) end
  return {value, abandoned, evicted, redis.call('ZCARD', ends), total}
end

local ended_now = redis.call(
  'ZRANGEBYSCORE', ends, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[5])
for at = 1, #ended_now, 2 do give_up(ended_now[at], tonumber(ended_now[at + 1])) end
