"""What every process of the product needs: clock, bounded channel, retry, shutdown, logs, process figures.

A module enters when two packages use it and its name says what it is. Nothing here imports another
package of the product.
"""
