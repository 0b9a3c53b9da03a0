"""Result types: estimates, rankings, score and suite results; plain data that pages and tables read."""
