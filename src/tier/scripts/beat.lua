-- Says how far a replica has followed the log, and hears how far the others have.
-- KEYS: the replicas, the log, what this life of the log is called
-- ARGV: the replica; up to where it has applied the log, empty if it leaves; a name for a log that has
--       none; after how many ms of silence a replica is forgotten
-- Returns the time in ms, the last position, the name of this life, and the replicas with their words.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[3], 'NX')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%016x', now))
end
local all, heard = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #all, 2 do
  if now - (tonumber(string.sub(all[index + 1], 34), 16) or 0) > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], all[index])
  else
    heard[#heard + 1] = all[index]
    heard[#heard + 1] = all[index + 1]
  end
end
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local last = string.rep('0', 32)
if newest then
  local ms, sequence = string.match(newest[1], '(%d+)-(%d+)')
  last = string.format('%016x%016x', ms, sequence)
end
return {now, last, redis.call('GET', KEYS[3]), heard}
