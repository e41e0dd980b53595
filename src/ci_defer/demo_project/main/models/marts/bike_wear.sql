with

bikes as (

    select * from {{ ref('dim_bikes') }}

),

-- All rides, whoever rode: a chain does not know who pays.
minutes_since_service as (

    select
        bikes.bike_id,
        coalesce(sum(rides.ride_minutes), 0) as minutes_since_service
    from bikes
    left join {{ ref('stg_rides') }} as rides
        on
            bikes.bike_id = rides.bike_id
            and rides.started_at >= bikes.last_serviced_on
    group by bikes.bike_id

)

select
    bikes.bike_id,
    bikes.bike_type,
    bikes.generation,
    bikes.last_serviced_on,
    minutes_since_service.minutes_since_service,
    minutes_since_service.minutes_since_service >= {{ var('service_after_minutes') }} as is_service_due
from bikes
inner join minutes_since_service
    on bikes.bike_id = minutes_since_service.bike_id
