"""The shop as an application that `run --app tests.integration.shop_served:app` serves."""

from tests.integration.shop import Cards, shop

app = shop(Cards())
