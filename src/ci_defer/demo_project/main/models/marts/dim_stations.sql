with

stations as (

    select * from {{ ref('stg_stations') }}

)

select
    station_id,
    station_name,
    district,
    dock_count,
    case
        when dock_count >= 20 then 'large'
        when dock_count >= 12 then 'medium'
        else 'small'
    end as station_size,
    opened_on
from stations
