"""How rows become values: statistics, resampling, and the estimators behind them."""
