{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='ride_id',
        on_schema_change='fail'
    )
}}

with

completed_rides as (

    select * from {{ ref('int_rides_completed') }}

    {% if is_incremental() %}
    -- A lock without reception reports up to two days late; unique_key makes reading them again harmless.
    where ended_at >= (
        select coalesce(max(ended_at), timestamp '1970-01-01') - interval 2 days
        from {{ this }}
    )
    {% endif %}

),

bikes as (

    select * from {{ ref('dim_bikes') }}

),

stations as (

    select * from {{ ref('dim_stations') }}

)

select
    completed_rides.ride_id,
    completed_rides.bike_id,
    bikes.bike_type,
    completed_rides.start_station_id,
    stations.district as start_district,
    completed_rides.end_station_id,
    completed_rides.rider_plan,
    completed_rides.started_at,
    completed_rides.ended_at,
    -- A ride past midnight is money of the day it ended, as that is when it is paid.
    cast(completed_rides.ended_at as date) as revenue_date,
    completed_rides.ride_minutes,
    completed_rides.price_eur
from completed_rides
left join bikes
    on completed_rides.bike_id = bikes.bike_id
left join stations
    on completed_rides.start_station_id = stations.station_id
