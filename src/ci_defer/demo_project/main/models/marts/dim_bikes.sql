with

bikes as (

    select * from {{ ref('stg_bikes') }}

)

select
    bike_id,
    bike_type,
    -- The second generation has other brakes and other locks: the workshop reports on the two apart.
    case
        when purchased_on < date '2024-01-01' then 'first'
        else 'second'
    end as generation,
    purchased_on,
    purchase_price_eur,
    last_serviced_on
from bikes
