-- What stands for a lookup, and the lease to fetch it if nothing does.
-- KEYS: the name, the absence, the last change of everybody, the lease
-- ARGV: what all names begin with; who asks; how long the lease lasts in ms, 0 for none;
--       when what is held already was asked for: only something later is of use
-- Returns the time in ms, the record of the name, of the person, of the absence, and of the lease
-- "taken" or "busy"; empty where there is nothing.
local stem, holder, lease_ms, held = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local everybody = redis.call('GET', KEYS[3])

-- A record is none if any of its names has changed after what it shows, or was erased.
local function standing(record)
  if not record then return '' end
  local position = string.sub(record, 7, 38)
  if string.sub(record, 39, 54) <= held then return '' end
  if everybody and string.sub(everybody, 1, 32) > position then return '' end
  for index = 1, tonumber(string.sub(record, 55, 56), 16) or 0 do
    local hash = string.sub(record, 25 + 32 * index, 56 + 32 * index)
    local change = redis.call('GET', stem .. 'c:' .. hash)
    if change and string.sub(change, 1, 32) > position then return '' end
    if redis.call('EXISTS', stem .. 'b:' .. hash) == 1 then return '' end
  end
  return record
end

local name, person = redis.call('GET', KEYS[1]) or '', ''
if string.sub(name, 6, 6) == 'n' then
  person = standing(redis.call('GET', stem .. 'p:' .. string.sub(name, 57, 88)))
end
local absence = standing(redis.call('GET', KEYS[2]))

local lease = ''
if person == '' and absence == '' and lease_ms > 0 then
  local taken = redis.call('SET', KEYS[4], holder, 'NX', 'PX', lease_ms)
  lease = taken and 'taken' or 'busy'
end
return {now, name, person, absence, lease}
