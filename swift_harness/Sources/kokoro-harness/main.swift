import Foundation
import KokoroHarnessKit

exit(await Harness.standard.main(Array(CommandLine.arguments.dropFirst())))
