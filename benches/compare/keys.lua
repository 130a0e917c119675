-- Requests for wrk: keys at random, or one after the other to fill a cache.
-- Arguments: how many keys, "random" or the key to fill a cache from, and headers as NAME VALUE pairs.
local requests, next_key, count = {}, 0, 1

function init(arguments)
   count = tonumber(arguments[1])
   local headers = { ["Host"] = "127.0.0.1" }
   for index = 3, #arguments, 2 do headers[arguments[index]] = arguments[index + 1] end
   for key = 0, count - 1 do
      local path = string.format("/api/v1/people/user_%07d", key)
      requests[key] = wrk.format("GET", path, headers)
   end
   math.randomseed(7)
   if arguments[2] ~= "random" then
      next_key = tonumber(arguments[2]) % count
      request = function()
         next_key = (next_key + 1) % count
         return requests[next_key]
      end
   else
      request = function() return requests[math.random(0, count - 1)] end
   end
end
