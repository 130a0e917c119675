-- What stands for a lookup, and the lease to fetch it if nothing does.
-- KEYS: the name, the absence, the last change of everybody, the lease
-- ARGV: what all names begin with; who asks, its replica in front; how long the lease lasts in ms, 0
--       for none; when what is held already was asked for: only something later is of use; the
--       largest record
-- Returns the time in ms, the record of the name, of the person, of the absence, and of the lease
-- "taken", "busy", or "own" if another fetch of the same replica has it; empty where there is nothing.
local stem, holder, lease_ms, held = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local largest = tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local everybody = redis.call('GET', KEYS[3])

local function read(key)
  return redis.call('STRLEN', key) <= largest and redis.call('GET', key)
end

-- A record is none if any of its names has changed after what it shows, or was erased.
local function standing(record)
  if not record then return '' end
  local position, asked_at = string.sub(record, 7, 38), string.sub(record, 39, 54)
  if asked_at <= held then return '' end
  local function outdated_by(change)
    return change and (string.sub(change, 1, 32) > position or string.sub(change, 34, 49) > asked_at)
  end
  if outdated_by(everybody) then return '' end
  for index = 1, tonumber(string.sub(record, 55, 56), 16) or 0 do
    local hash = string.sub(record, 25 + 32 * index, 56 + 32 * index)
    if outdated_by(redis.call('GET', stem .. 'c:' .. hash)) then return '' end
    if redis.call('EXISTS', stem .. 'b:' .. hash) == 1 then return '' end
  end
  return record
end

local name, person = read(KEYS[1]) or '', ''
if string.sub(name, 6, 6) == 'n' then
  person = standing(read(stem .. 'p:' .. string.sub(name, 57, 88)))
end
local absence = standing(read(KEYS[2]))

local lease = ''
if person == '' and absence == '' and lease_ms > 0 then
  if redis.call('SET', KEYS[4], holder, 'NX', 'PX', lease_ms) then
    lease = 'taken'
  else
    local other = redis.call('GET', KEYS[4])
    lease = string.sub(other, 1, 32) == string.sub(holder, 1, 32) and 'own' or 'busy'
  end
end
return {now, name, person, absence, lease}
