with

raw_rides as (

    select * from {{ ref('raw_rides') }}

)

select
    ride_id,
    bike_id,
    start_station_id,
    end_station_id,
    rider_plan,
    unlocked_at as started_at,
    -- Empty while the bike is out: duration and price are then empty as well, not zero.
    locked_at as ended_at,
    date_diff('minute', unlocked_at, locked_at) as ride_minutes,
    {{ cents_to_euros('price_cents') }} as price_eur
from raw_rides
