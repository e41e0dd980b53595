with

rides as (

    select * from {{ ref('stg_rides') }}

)

select
    ride_id,
    bike_id,
    start_station_id,
    end_station_id,
    rider_plan,
    started_at,
    ended_at,
    ride_minutes,
    price_eur
from rides
-- A bike that is still out has neither a destination nor a price.
where ended_at is not null
